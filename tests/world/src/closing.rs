//! What must come of any state when everybody does what brings things to an end: the loop runs, the guest
//! stops writing, opens everything in every mode, uses it, and the function goes.

use crate::input::Input;
use crate::setup::Setup;
use crate::world::{Violation, World, violated};

impl World {
    /// Ends a life.
    ///
    /// # Errors
    /// [`Violation`], with the last input that was given.
    pub fn close(&mut self) -> Result<(), Violation> {
        self.outside.lock().failing = None;
        self.close_as_it_is()?;
        let setup = self.setup;
        if !self.attached {
            self.end(Input::Attach)?;
        }
        if self.loading {
            self.end(Input::Resume)?;
        }
        self.end(Input::Loop)?;
        if self.tolerant {
            // Every mode is left, and what failed is tried again.
            self.end_all(&disabled(&setup))?;
            self.end(Input::Loop)?;
            self.tolerant = false;
            self.end(Input::Loop)?;
        }
        self.open(&setup)?;
        self.unplug().map_err(|violation| at_the_end("the unplug", violation))
    }

    /// The guest stops writing: the next event goes to what the registers say.
    fn close_as_it_is(&mut self) -> Result<(), Violation> {
        self.end(Input::Loop)?;
        let setup = self.setup;
        for vector in (0..setup.vectors).filter(|_| setup.msix || setup.msi.is_some()) {
            let produced = setup.producers != crate::setup::Producers::None;
            self.end(if produced { Input::Produce(vector) } else { Input::Event(vector) })?;
            self.end(Input::Loop)?;
        }
        Ok(())
    }

    /// Every mode is used, and everything that is pending comes.
    fn open(&mut self, setup: &Setup) -> Result<(), Violation> {
        self.program();
        let unused = self.claims.iter().position(|claims| *claims == 0);
        if let Some(vector) = unused.filter(|_| setup.msix) {
            self.end(Input::Claim(vector as u8))?;
        }
        self.end(Input::Command { bus_master: true, intx_disable: false })?;
        let events: Vec<Input> =
            (0..setup.vectors).flat_map(|v| [Input::Event(v), Input::Loop]).collect();
        if setup.msix {
            self.end(Input::ReadPba)?;
            let unmasked = (0..setup.vectors).map(|v| Input::Mask(v, false));
            self.end_all(&unmasked.collect::<Vec<_>>())?;
            self.end(Input::MsixControl { enable: true, mask: false })?;
            self.end(Input::Loop)?;
            self.end_all(&events)?;
            self.end(Input::MsixControl { enable: false, mask: false })?;
        }
        if let Some(shape) = setup.msi {
            self.end(Input::ReadMsi)?;
            let log = setup.vectors.next_power_of_two().trailing_zeros() as u8;
            if shape.masks {
                self.end(Input::MsiMask(0xf))?;
            }
            self.end(Input::MsiControl { enable: !shape.masks, log })?;
            self.end(Input::MsiControl { enable: shape.masks, log })?;
            // The host has more by now: tried again at the next Arm (H11).
            self.outside.lock().device.available_msi = setup.vectors.into();
            self.is_scarce = false;
            self.end(if shape.masks {
                Input::MsiMask(0)
            } else {
                Input::MsiControl { enable: true, log }
            })?;
            self.end(Input::Loop)?;
            self.end_all(&events)?;
            self.end(Input::MsiControl { enable: false, log })?;
        }
        if setup.pin {
            let line = [Input::Level(true), Input::Loop, Input::ReadStatus, Input::Level(false)];
            self.end_all(&line)?;
            self.end_all(&[Input::Eoi, Input::Loop, Input::ReadStatus])?;
            if self.outside.lock().controller.is_high() {
                return violated("at the end, the pin stays high after its EOI");
            }
            self.end_all(&[Input::Level(true), Input::Loop])?;
        }
        Ok(())
    }

    fn end_all(&mut self, inputs: &[Input]) -> Result<(), Violation> {
        inputs.iter().try_for_each(|&input| self.end(input))
    }

    fn end(&mut self, input: Input) -> Result<(), Violation> {
        self.apply(input).map_err(|violation| at_the_end(&format!("{input:?}"), violation))
    }
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
