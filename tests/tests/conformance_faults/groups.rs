//! The optional groups of a broken device.

use super::Fault;
use super::broken::Broken;
use msix_conformance::{
    Attachment, BackendCall, BackendLog, BusMaster, Claims, FunctionReset, HostCall, HostLog,
    HostScript, IntxCall, IntxLog, QemuField, Refused, Snapshots, Withdrawal,
};

/// The engine's own answer to a group that it offers.
macro_rules! inner {
    ($self:ident . $group:ident) => {
        $self.inner.$group().expect("the engine offers it")
    };
}

impl Claims for Broken {
    fn claim(&mut self, vector: u32) -> Result<(), Refused> {
        inner!(self.claims).claim(vector)
    }
    fn unclaim(&mut self, vector: u32) -> Result<(), Refused> {
        if self.is(Fault::UnclaimAtZeroClaims) && self.count(vector) == Ok(0) {
            return inner!(self.claims).claim(vector);
        }
        inner!(self.claims).unclaim(vector)
    }
    fn count(&mut self, vector: u32) -> Result<u32, Refused> {
        inner!(self.claims).count(vector)
    }
}

impl Withdrawal for Broken {
    fn withdraw(&mut self, vector: u32) -> Result<(), Refused> {
        if self.is(Fault::WithdrawDoesNothing) {
            return Ok(());
        }
        inner!(self.withdrawal).withdraw(vector)
    }
}

impl FunctionReset for Broken {
    fn reset(&mut self) {
        self.log_calls(|_| true);
        inner!(self.function_reset).reset();
        if self.is(Fault::ResetKeepsUnmasked) {
            self.inner.write_table(12, &[0; 4]);
        }
        let leaks = self.is(Fault::ResetDoesNotDisarm);
        self.log_calls(|call| !leaks || !matches!(call, HostCall::Disarm { .. }));
    }
}

impl BusMaster for Broken {
    fn set_bus_master(&mut self, on: bool) {
        if on && self.is(Fault::BusMasterOffLoses) {
            self.withdraw_all();
        }
        inner!(self.bus_master).set_bus_master(on);
    }
}

impl IntxLog for Broken {
    fn calls(&mut self) -> Vec<IntxCall> {
        let mut calls = inner!(self.intx).calls();
        calls.append(&mut self.intx);
        calls
    }
}

impl HostLog for Broken {
    fn calls(&mut self) -> Vec<HostCall> {
        self.log_calls(|_| true);
        std::mem::take(&mut self.log)
    }
}

impl BackendLog for Broken {
    fn calls(&mut self) -> Vec<BackendCall> {
        self.log_calls(|_| true);
        std::mem::take(&mut self.kernel)
    }
}

impl HostScript for Broken {
    fn fail_arm(&mut self, vector: u16, fail: bool) {
        if self.is(Fault::FailedArmIsDead) && fail {
            self.marked.insert(vector);
        }
        inner!(self.host_script).fail_arm(vector, fail);
    }
    fn signal(&mut self, vector: u16) {
        let fault = self.fault;
        match fault {
            Fault::HeldEventIsLost if self.is_masked(vector) => {}
            Fault::LosesWhileDetached if !self.attached => {}
            Fault::SaveDoesNotPoll if self.is_masked(vector) => _ = self.marked.insert(vector),
            _ => inner!(self.host_script).signal(vector),
        }
    }
}

impl Attachment for Broken {
    fn attach(&mut self) {
        inner!(self.attachment).attach();
        self.attached = true;
    }
    fn detach(&mut self) {
        self.log_calls(|_| true);
        inner!(self.attachment).detach();
        self.attached = false;
        let leaks = self.is(Fault::DetachLeaks);
        self.log_calls(|call| !leaks || !matches!(call, HostCall::Disarm { .. }));
        if !self.is(Fault::DetachKeepsRoutes) {
            let unroute = std::mem::take(&mut self.routes).into_keys();
            self.kernel.extend(unroute.map(|vector| BackendCall::Unroute { vector }));
        }
    }
}

impl Snapshots for Broken {
    fn save(&mut self) -> Vec<u8> {
        inner!(self.snapshots).save()
    }
    fn load(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if self.is(Fault::LoadSpeaks) {
            let message = self.message(0);
            self.log.push(HostCall::Arm { vector: 0, message });
        }
        let answer = inner!(self.snapshots).load(bytes);
        self.loading |= answer.is_ok();
        if self.is(Fault::LoadChangesOnError) && answer.is_err() {
            self.inner.write_table(0, &[4; 4]);
        }
        answer
    }
    fn resume(&mut self) {
        self.log_calls(|_| true);
        self.loading = false;
        let told = inner!(self.intx).calls();
        self.intx.extend(told);
        inner!(self.snapshots).resume();
        if self.is(Fault::RestoreForgetsIntx) {
            inner!(self.intx).calls();
        }
        let silent = self.is(Fault::RestoreWithoutArm);
        self.log_calls(|call| !silent || !matches!(call, HostCall::Arm { .. }));
    }
}

impl QemuField for Broken {
    fn save_field(&mut self) -> Vec<u8> {
        let mut field = inner!(self.qemu_field).save_field();
        if self.is(Fault::FieldWithoutPba) {
            field[16 * usize::from(self.vectors)..].fill(0);
        }
        field
    }
    fn load_field(&mut self, control: u16, field: &[u8]) -> Result<(), Refused> {
        inner!(self.qemu_field).load_field(control, field)
    }
    fn resume_field(&mut self) {
        inner!(self.qemu_field).resume_field();
    }
}
