//! What must come of any state when everybody does what brings things to an end: the loop runs, the guest
//! stops writing, opens everything in every mode, uses it, and the function goes.

use crate::input::Input;
use crate::setup::{Producers, Setup};
use crate::world::{Violation, World, violated};

/// One step of an end. Together with the state before it, it decides what comes after.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Closing {
    /// No call fails any more.
    Works,
    Give(Input),
    /// An input that cannot make a difference is left out.
    GiveIfTaken(Input),
    /// Every mode is left after a call that failed, so that what it was for is tried again.
    Recover(Input),
    /// What was tried again is there.
    Recovered,
    /// The messages are as a driver programs them.
    Program,
    /// A vector without a claim is claimed.
    Claim,
    /// The host has more vectors by now.
    Plenty,
    /// The pin is low.
    Low,
    /// The function goes.
    Unplug,
}

impl World {
    /// Ends a life.
    ///
    /// # Errors
    /// [`Violation`], with the last input that was given.
    pub fn close(&mut self) -> Result<(), Violation> {
        closing(&self.setup).into_iter().try_for_each(|step| self.close_by(step))
    }

    /// One step of an end.
    pub(crate) fn close_by(&mut self, step: Closing) -> Result<(), Violation> {
        match step {
            Closing::Works => self.outside.lock().failing = None,
            Closing::Give(input) => return self.end(input),
            Closing::GiveIfTaken(input) if self.takes(input) => return self.end(input),
            Closing::Recover(input) if self.tolerant => return self.end(input),
            Closing::GiveIfTaken(_) | Closing::Recover(_) => {}
            Closing::Recovered => self.tolerant = false,
            Closing::Program => self.program(),
            Closing::Claim => {
                if let Some(vector) = self.claims.iter().position(|claims| *claims == 0) {
                    return self.end(Input::Claim(vector as u8));
                }
            }
            Closing::Plenty => {
                self.outside.lock().device.available_msi = self.setup.vectors.into();
                self.is_scarce = false;
            }
            Closing::Low if self.outside.lock().controller.is_high() => {
                return violated("at the end, the pin stays high after its EOI");
            }
            Closing::Low => {}
            Closing::Unplug => {
                return self.unplug().map_err(|violation| at_the_end("the unplug", violation));
            }
        }
        Ok(())
    }

    fn end(&mut self, input: Input) -> Result<(), Violation> {
        self.apply(input).map_err(|violation| at_the_end(&format!("{input:?}"), violation))
    }
}

/// An end, step by step.
pub(crate) fn closing(setup: &Setup) -> Vec<Closing> {
    let mut all = vec![Closing::Works];
    let mut give = |inputs: &[Input]| all.extend(inputs.iter().copied().map(Closing::Give));
    let vectors = || (0..setup.vectors).filter(|_| setup.has_messages());
    let produced = setup.producers != Producers::None;
    // The guest stops writing: the next event goes to what the registers say.
    give(&[Input::Loop]);
    for vector in vectors() {
        let event = if produced { Input::Produce(vector) } else { Input::Event(vector) };
        if setup.producers == Producers::Late {
            give(&[Input::Event(vector), Input::Loop, Input::Connect(vector)]);
        }
        give(&[event, Input::Loop]);
    }
    all.extend([Input::Attach, Input::Resume].map(Closing::GiveIfTaken));
    all.push(Closing::Give(Input::Loop));
    all.extend(disabled(setup).into_iter().map(Closing::Recover));
    all.extend([
        Closing::Recover(Input::Loop),
        Closing::Recovered,
        Closing::Give(Input::Loop),
        Closing::Program,
    ]);
    if setup.msix {
        all.push(Closing::Claim);
    }
    all.push(Closing::Give(Input::Command { bus_master: true, intx_disable: false }));
    all.extend(opened(setup));
    all.push(Closing::Unplug);
    all
}

/// Every mode is used, and everything that is pending comes.
fn opened(setup: &Setup) -> Vec<Closing> {
    let mut all = Vec::new();
    let vectors = 0..setup.vectors;
    let events: Vec<Input> = vectors.clone().flat_map(|v| [Input::Event(v), Input::Loop]).collect();
    if setup.msix {
        let mut inputs = vec![Input::ReadPba];
        inputs.extend(vectors.map(|v| Input::Mask(v, false)));
        inputs.extend([Input::MsixControl { enable: true, mask: false }, Input::Loop]);
        inputs.extend(&events);
        inputs.push(Input::MsixControl { enable: false, mask: false });
        all.extend(inputs.into_iter().map(Closing::Give));
    }
    if let Some(shape) = setup.msi {
        let log = setup.vectors.next_power_of_two().trailing_zeros() as u8;
        let mut inputs = vec![Input::ReadMsi];
        if shape.masks {
            inputs.push(Input::MsiMask(0xf));
        }
        inputs.push(Input::MsiControl { enable: !shape.masks, log });
        inputs.push(Input::MsiControl { enable: shape.masks, log });
        all.extend(inputs.into_iter().map(Closing::Give));
        // Tried again at the next Arm (H11).
        all.push(Closing::Plenty);
        let arm =
            if shape.masks { Input::MsiMask(0) } else { Input::MsiControl { enable: true, log } };
        let mut inputs = vec![arm, Input::Loop];
        inputs.extend(&events);
        inputs.push(Input::MsiControl { enable: false, log });
        all.extend(inputs.into_iter().map(Closing::Give));
    }
    if setup.pin {
        let line = [Input::Level(true), Input::Loop, Input::ReadStatus, Input::Level(false)];
        let end = [Input::Eoi, Input::Loop, Input::ReadStatus];
        all.extend(line.into_iter().chain(end).map(Closing::Give));
        all.push(Closing::Low);
        all.extend([Input::Level(true), Input::Loop].map(Closing::Give));
    }
    all
}

fn at_the_end(what: &str, violation: Violation) -> Violation {
    Violation(format!("at the end, at {what}: {violation}"))
}

fn disabled(setup: &Setup) -> Vec<Input> {
    let mut all = Vec::new();
    if setup.msix {
        all.push(Input::MsixControl { enable: false, mask: false });
    }
    if setup.msi.is_some() {
        all.push(Input::MsiControl { enable: false, log: 0 });
    }
    if setup.pin {
        all.push(Input::Command { bus_master: true, intx_disable: true });
        all.push(Input::Command { bus_master: true, intx_disable: false });
    }
    all
}
