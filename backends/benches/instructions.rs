//! `instructions SCENARIO TIMES`: runs one scenario of a function on a VM that does nothing, so that
//! callgrind can count the instructions of `measured`. See README.md beside this file.

#[path = "shared/nothing.rs"]
mod nothing;

use msix_backends::Route;
use msix_backends::eventfd::Loop;
use msix_backends::kvm::{Function, FunctionSetup, Irqchip, Platform, RouteOptions, Routes};
use msix_core::{BarIndex, Layout, Vector};
use nothing::Nothing;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::error::Error;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A VMM whose other parts do nothing.
struct Rest;

impl Platform for Rest {
    fn write_memory(&mut self, _: u64, _: u32) {}
    fn snoop(&mut self, _: Route) {}
}

/// A function of MSI-X alone, and the guest at it.
struct Subject(Function<Rest>);

impl Subject {
    /// Makes a function with all vectors claimed and up.
    fn new(routes: &Arc<Routes>, vectors: u16) -> Outcome<Self> {
        let layout = Layout::exclusive_bar(u32::from(vectors), BarIndex::new(1)?)?;
        let setup = FunctionSetup { msix: Some(layout), ..FunctionSetup::new(Rest) };
        let this = Self(Function::new(routes, setup).expect("no device id is needed"));
        this.0.claim_all();
        this.0.write_command(0, &[0x06, 0x00]);
        this.control(ENABLED);
        for vector in 0..vectors {
            this.program(vector, u32::from(vector));
            this.mask(vector, false);
        }
        Ok(this)
    }

    fn write(&self, offset: u64, value: u32) {
        self.0.write_table(offset, &value.to_le_bytes());
    }

    fn read(&self, offset: u64) {
        let mut bytes = [0; 4];
        self.0.read_table(offset, &mut bytes);
        black_box(&bytes);
    }

    fn read_pba(&self, offset: u64) {
        let mut bytes = [0; 8];
        self.0.read_pba(offset, &mut bytes);
        black_box(&bytes);
    }

    fn control(&self, high: u8) {
        self.0.write_msix(3, &[high]);
    }

    fn mask(&self, vector: u16, masked: bool) {
        self.write(u64::from(vector) * 16 + 12, masked.into());
    }

    /// Writes a message and reads it back, as Linux does.
    fn program(&self, vector: u16, data: u32) {
        let entry = u64::from(vector) * 16;
        self.write(entry, 0xfee0_0000);
        self.write(entry + 4, 0);
        self.write(entry + 8, data);
        self.read(entry + 8);
    }

    /// Moves an interrupt, as Linux does (T3).
    fn affinity(&self, vector: u16, data: u32) {
        self.mask(vector, true);
        self.read(0);
        self.program(vector, data);
        self.program(vector, data + 1);
        self.mask(vector, false);
    }
}

const ENABLED: u8 = 0x80;
const FUNCTION_MASKED: u8 = 0xc0;

#[inline(never)]
fn measured(step: &mut dyn FnMut()) {
    step();
}

/// Runs a scenario. Returns whether there is one of that name.
fn run(scenario: &str, times: u16) -> Outcome<bool> {
    let routes = Routes::new(Box::new(Nothing), RouteOptions::new(Irqchip::Split), Loop::new()?);
    let functions: Vec<Subject> = match scenario {
        "flush-idle" => (0..100).map(|_| Subject::new(&routes, 1)).collect::<Outcome<_>>()?,
        // All GSIs from 24 to 4095.
        "commit" => vec![Subject::new(&routes, 2048)?, Subject::new(&routes, 2024)?],
        "read-pba-2048" => vec![Subject::new(&routes, 2048)?],
        _ => vec![Subject::new(&routes, 64)?],
    };
    let function = &functions[0];
    routes.flush();
    for round in 0..times {
        let vector = round % 64;
        let (entry, data) = (u64::from(vector) * 16, 0x1000 + 2 * u32::from(round));
        match scenario {
            "write-masked" => {
                function.mask(vector, true);
                let address = 0xfee0_0000 + (data << 12);
                measured(&mut || function.write(entry, address));
            }
            "read" => measured(&mut || function.read(entry + 8)),
            "read-pba" | "read-pba-2048" => {
                measured(&mut || function.read_pba(u64::from(vector / 64) * 8))
            }
            "notify-armed" => {
                measured(&mut || _ = black_box(function.0.notify(Vector::new(vector))))
            }
            "notify-masked" => {
                function.mask(vector, true);
                measured(&mut || _ = black_box(function.0.notify(Vector::new(vector))));
            }
            "mask-unmask" => measured(&mut || {
                function.mask(vector, true);
                function.mask(vector, false);
            }),
            "affinity" => measured(&mut || function.affinity(vector, data)),
            "function-mask" => measured(&mut || {
                function.control(FUNCTION_MASKED);
                function.control(ENABLED);
            }),
            "flush-idle" => measured(&mut || routes.flush()),
            "commit" => {
                function.affinity(vector, data);
                measured(&mut || routes.flush());
            }
            _ => return Ok(false),
        }
        routes.flush();
    }
    Ok(true)
}

fn main() -> Outcome<ExitCode> {
    // `cargo bench` adds `--bench` and names no scenario.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.is_empty() {
        println!("instructions: counted by tests/tests/budgets.rs");
        return Ok(ExitCode::SUCCESS);
    }
    // An eventfd for each vector of the largest scenario.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let done = match arguments.as_slice() {
        [scenario, times] => times.parse().is_ok_and(|times| run(scenario, times).unwrap_or(false)),
        _ => false,
    };
    if !done {
        eprintln!("usage: instructions SCENARIO TIMES");
    }
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
