//! Bytes that nobody has checked, as a snapshot of a function in mid-life.

use crate::behaviour;
use msix_core::operation::Operation;
use msix_core::{Boxed, Vector};
use msix_tests::lockstep::{COUNTS, Lockstep, Steps, engine};
use msix_tests::reference;

/// Loads bytes in an engine that has a life already, and in its model.
///
/// The bytes: index into the vector counts (1), encoding (1: native, native with header and
/// checksum made right, QEMU; 3 more than that is the newer version), Message Control (2), policy (4), then the snapshot.
///
/// # Panics
/// When a refused snapshot changed anything, an accepted one leads to a state that the engine finds
/// wrong or that does not save back to what was loaded, or engine and model disagree.
pub fn snapshot_load(data: &[u8]) {
    let Some((head, bytes)) = data.split_first_chunk::<HEAD>() else { return };
    let &[count, encoding, c0, c1, p0, p1, p2, p3] = head;
    let vectors = COUNTS[usize::from(count) % COUNTS.len()];
    let control = u16::from_le_bytes([c0, c1]);
    let behaviour = behaviour(u32::from_le_bytes([p0, p1, p2, p3]));
    let mut both = Lockstep::new(engine(vectors, behaviour.policy), behaviour);
    live_a_little(&mut both);
    let (loaded, expected) = match encoding % 3 {
        0 => (both.engine.load(bytes), both.model.load(bytes)),
        1 => {
            let bytes = sealed(1 + encoding / 3 % 2, bytes, vectors, control);
            (both.engine.load(&bytes), both.model.load(&bytes))
        }
        _ => (both.engine.load_qemu(control, bytes), both.model.load_qemu(control, bytes)),
    };
    assert_eq!(loaded, expected, "N={vectors}");
    // The model is untouched by what it refuses, and holds just what it accepts.
    agree(&both);
    assert_eq!(both.engine.is_loading(), loaded.is_ok());
    run(&mut both, &[Operation::Resume, Operation::Detach]);
    agree(&both);
}

/// Bytes before the snapshot.
pub(crate) const HEAD: usize = 8;

/// As the native encoding of a table of `vectors`, version 1 or 2, with a right checksum.
fn sealed(version: u8, body: &[u8], vectors: u16, control: u16) -> Vec<u8> {
    let n = usize::from(vectors);
    let mut bytes = [&b"MSIX"[..], &[version, 0], &control.to_le_bytes()].concat();
    bytes.extend(u32::from(vectors).to_le_bytes());
    bytes.extend(body);
    bytes.resize(12 + 18 * n + 8 * n.div_ceil(64), 0);
    reference::sealed(bytes)
}

/// Uses, events, a backend, a failure and a changed message: something to lose.
fn live_a_little(both: &mut Lockstep<Boxed>) {
    let (first, last) = (Vector::new(0), Vector::new(both.engine.vectors() - 1));
    run(
        both,
        &[
            Operation::Claim(first),
            Operation::Claim(last),
            Operation::Attach,
            Operation::WriteConfig { offset: 3, len: 1, value: 0x80 },
            Operation::Notify(last),
            Operation::SetMask(first, false),
            Operation::ReportFailed(msix_core::Vectors::one(first)),
            Operation::WriteTable { offset: 0, len: 4, value: 0xfee0_1000 },
        ],
    );
}

fn run(both: &mut Lockstep<Boxed>, operations: &[Operation]) {
    for operation in operations {
        if let Err(difference) = both.step(operation) {
            panic!("{operation:?}: {difference}");
        }
    }
}

fn agree(both: &Lockstep<Boxed>) {
    if let Err(difference) = both.compare().and_then(|()| both.compare_reads()) {
        panic!("{difference}");
    }
}
