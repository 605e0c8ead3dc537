//! Fuzzes MSI-X of the installed QEMU beside the naive model: `-- [SEED [SEQUENCES]]`. `QEMU.md` says what is
//! stepped around.

use msix_conformance::fuzz::{Fuzz, fuzz};
use msix_tests::conformance::QemuSubject;
use msix_tests::conformance::qemu::exceptions;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let numbers = std::env::args().skip(1).map(|number| number.parse());
    let numbers: Vec<u32> = numbers.collect::<Result<_, _>>()?;
    let seed = u64::from(numbers.first().copied().unwrap_or(1));
    let sequences = numbers.get(1).copied().unwrap_or(50);
    let (vectors, shorten) = (vec![2, 33, 65], 300);
    let options = Fuzz { seed, sequences, vectors, shorten, except: exceptions() };
    let fuzzed = fuzz(&QemuSubject::find("qemu-system-x86_64")?, &options)?;
    eprintln!("{} sequences, {} inputs", fuzzed.sequences, fuzzed.inputs);
    match fuzzed.finding {
        Some(finding) => print!("{finding}"),
        None => eprintln!("no difference"),
    }
    Ok(())
}
