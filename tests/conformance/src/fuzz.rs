//! A fuzzer for any adapter (feature `fuzz`): random operations to a device and to the naive model under
//! the choices that its subject declares. The first difference is shortened and printed as a script that
//! `msix replay` takes, so that what the engine does at each step can be read beside it.
//!
//! ```
//! use msix_conformance::fuzz::{Fuzz, fuzz};
//! # fn look(subject: &dyn msix_conformance::Subject) -> Result<(), String> {
//! let fuzzed = fuzz(subject, &Fuzz { seed: 7, ..Fuzz::default() })?;
//! if let Some(finding) = fuzzed.finding {
//!     println!("{finding}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Compared are reads of configuration space, table and PBA; the messages of each input; refusals; and,
//! where the adapter offers them, claims, INTx calls, what the host was asked to arm (H1, I5), the vectors
//! that a PBA read polls (C36), the order of calls to the kernel (K6), and QEMU's field. Where a choice is
//! left open ([`Choices`](crate::Choices)), a device agrees if it agrees with one alternative from the start
//! to the end of a sequence. Operations that an adapter does not offer are left out, or done as a guest can.
//!
//! [`agree`] runs one sequence, for those who bring their own, such as a property test over the
//! [strategies](crate::strategy): the example `fuzz` of this crate has one. [`examine`] also shortens it, as a
//! target for libFuzzer wants it: the crate's page has one.

mod beside;
mod expected;
mod kernel;
mod offers;
mod script;

pub use script::{Finding, NotReplayed, replay};

use crate::adapter::{Message, NoDevice, Subject};
use crate::strategy;
use beside::Beside;
use msix_core::operation::Operation;
use offers::Offers;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::fmt;

/// How to look for a difference.
#[derive(Debug, Clone)]
pub struct Fuzz {
    /// Where the random numbers begin: the same seed gives the same sequences.
    pub seed: u64,
    /// How many sequences to try with each count of vectors.
    pub sequences: u32,
    /// Counts of vectors; those that the subject does not offer are left out. The model visits every vector
    /// at every input, so large ones take their time.
    pub vectors: Vec<u16>,
    /// How many shorter sequences to try at most, when a difference was found.
    pub shorten: u32,
    /// What to look away from.
    pub except: Exceptions,
}

impl Default for Fuzz {
    fn default() -> Self {
        Self {
            seed: 1,
            sequences: 200,
            vectors: vec![1, 2, 33, 65],
            shorten: 2000,
            except: Exceptions::default(),
        }
    }
}

/// What a comparison looks away from: what an adapter cannot show, and differences that are known.
#[derive(Debug, Clone)]
pub struct Exceptions {
    /// Whether the adapter would show this message: an interrupt controller may see those to its own
    /// addresses only. A message that it would not show may be there or not.
    pub shows: fn(Message) -> bool,
    /// Operations that are not tried, each kind for a reason.
    pub avoided: Vec<Avoided>,
    /// What the fuzzer begins every sequence with; nothing of it is avoided.
    pub begins: Vec<Operation>,
}

impl Default for Exceptions {
    fn default() -> Self {
        Self { shows: |_| true, avoided: Vec::new(), begins: Vec::new() }
    }
}

/// A kind of operation that is not tried, so that others are found.
#[derive(Debug, Clone, Copy)]
pub struct Avoided {
    /// The difference that it leads to.
    pub why: &'static str,
    /// Whether this operation, on a function with so many vectors, is of that kind.
    pub avoids: fn(&Operation, u16) -> bool,
}

impl Exceptions {
    fn avoid(&self, operation: &Operation, vectors: u16) -> bool {
        self.avoided.iter().any(|avoided| (avoided.avoids)(operation, vectors))
    }
}

/// What a run did and found.
#[derive(Debug, Clone)]
pub struct Fuzzed {
    /// Sequences that were run, without those that made the finding shorter.
    pub sequences: u64,
    /// Inputs in them.
    pub inputs: u64,
    /// The first difference.
    pub finding: Option<Finding>,
}

/// Where a device and the model differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// How many inputs of the sequence were given to both before this one.
    pub at: usize,
    /// What was compared.
    pub what: &'static str,
    /// What the model has. Where choices are open: what it has with the alternatives that agreed longest.
    pub expected: String,
    /// What the device showed.
    pub got: String,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, expected, got, .. } = self;
        write!(f, "{what}: expected {expected}, got {got}")
    }
}

/// Looks for a difference between `subject` and the model.
///
/// # Errors
/// Why there is no device, if there is none of any of the counts.
pub fn fuzz(subject: &dyn Subject, options: &Fuzz) -> Result<Fuzzed, String> {
    let mut fuzzed = Fuzzed { sequences: 0, inputs: 0, finding: None };
    let mut missing = Vec::new();
    for &vectors in &options.vectors {
        let offers = match device(subject, vectors) {
            Ok(mut device) => Offers::of(device.as_mut()),
            Err(why) => {
                missing.push(why);
                continue;
            }
        };
        fuzzed.finding = Search { subject, options, vectors, offers }.run(&mut fuzzed)?;
        if fuzzed.finding.is_some() {
            return Ok(fuzzed);
        }
    }
    if fuzzed.sequences == 0 && !missing.is_empty() {
        return Err(missing.join("; "));
    }
    Ok(fuzzed)
}

/// Gives `operations` to a new device of `subject` with `vectors` vectors and to the model; the first
/// difference. Operations that the adapter does not offer are left out, as those of `except`.
///
/// # Errors
/// Why there is no such device.
pub fn agree(
    subject: &dyn Subject,
    vectors: u16,
    operations: &[Operation],
    except: &Exceptions,
) -> Result<Option<Disagreement>, String> {
    let mut device = device(subject, vectors)?;
    let offers = Offers::of(device.as_mut());
    let operations: Vec<Operation> = offers.only(operations, vectors, except);
    Ok(beside(subject, device, vectors, except).follow(&operations))
}

/// As [`agree`], and shortens the sequence: for libFuzzer, whose input is the sequence, and whose own way to
/// shorten it knows no operations. Of `options`, `shorten` and `except` count.
///
/// # Errors
/// Why there is no such device.
pub fn examine(
    subject: &dyn Subject,
    vectors: u16,
    operations: &[Operation],
    options: &Fuzz,
) -> Result<Option<Finding>, String> {
    let offers = Offers::of(device(subject, vectors)?.as_mut());
    let search = Search { subject, options, vectors, offers };
    let shown = search.shown(&search.only(operations))?;
    shown.map(|shown| search.finding(shown, options.shorten)).transpose()
}

fn device(subject: &dyn Subject, vectors: u16) -> Result<Box<dyn crate::Device>, String> {
    subject.device(u32::from(vectors)).map_err(|why| {
        let (NoDevice::Refused(why) | NoDevice::NotOffered(why)) = why;
        format!("no device with {vectors} vectors: {why}")
    })
}

fn beside(
    subject: &dyn Subject,
    device: Box<dyn crate::Device>,
    vectors: u16,
    except: &Exceptions,
) -> Beside {
    Beside::new(device, vectors, &subject.choices(), except.shows)
}

/// The search with one count of vectors.
struct Search<'a> {
    subject: &'a dyn Subject,
    options: &'a Fuzz,
    vectors: u16,
    offers: Offers,
}

impl Search<'_> {
    fn run(&self, fuzzed: &mut Fuzzed) -> Result<Option<Finding>, String> {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.options.seed.to_le_bytes());
        seed[8..10].copy_from_slice(&self.vectors.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let config = Config { failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, rng);
        let sequences = strategy::sequence(self.vectors);
        for _ in 0..self.options.sequences {
            let mut tree = sequences.new_tree(&mut runner).map_err(|why| why.to_string())?;
            let operations = self.only(&tree.current());
            fuzzed.sequences += 1;
            fuzzed.inputs += operations.len() as u64;
            let Some(mut shown) = self.shown(&operations)? else { continue };
            // First what the sequence was made of, then one operation after another.
            let mut tries = self.options.shorten;
            let mut simpler = tree.simplify();
            while simpler && tries > 0 {
                tries -= 1;
                simpler = match self.shown(&self.only(&tree.current()))? {
                    Some(still) => {
                        shown = still;
                        tree.simplify()
                    }
                    None => tree.complicate(),
                };
            }
            return self.finding(shown, tries).map(Some);
        }
        Ok(None)
    }

    fn only(&self, operations: &[Operation]) -> Vec<Operation> {
        let except = &self.options.except;
        let rest = self.offers.only(operations, self.vectors, except);
        except.begins.iter().copied().chain(rest).collect()
    }

    /// The operations up to the first difference, and that.
    fn shown(&self, operations: &[Operation]) -> Result<Option<Shown>, String> {
        let device = device(self.subject, self.vectors)?;
        let mut beside = beside(self.subject, device, self.vectors, &self.options.except);
        let found = beside.follow(operations);
        Ok(found.map(|difference| (operations[..=difference.at].to_vec(), difference)))
    }

    /// The same without one operation, from the last one on.
    fn shorter(&self, operations: &[Operation], tries: &mut u32) -> Result<Option<Shown>, String> {
        for left_out in (self.options.except.begins.len()..operations.len()).rev() {
            if *tries == 0 {
                return Ok(None);
            }
            *tries -= 1;
            let mut fewer = operations.to_vec();
            fewer.remove(left_out);
            if let Some(shown) = self.shown(&fewer)? {
                return Ok(Some(shown));
            }
        }
        Ok(None)
    }

    /// What is published of a difference, made shorter in so many tries.
    fn finding(&self, mut shown: Shown, mut tries: u32) -> Result<Finding, String> {
        while let Some(shorter) = self.shorter(&shown.0, &mut tries)? {
            shown = shorter;
        }
        let (operations, difference) = shown;
        let choices = self.subject.choices();
        Ok(Finding::new(self.vectors, &choices, &self.offers, operations, difference))
    }
}

/// Operations, and the difference that the last of them shows.
type Shown = (Vec<Operation>, Disagreement);
