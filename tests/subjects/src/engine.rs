//! The engine as a subject, with the model host under it, or another that the suite can ask.

use super::model_host::{EventPath, ModelHost};
use super::policy_name;
use super::suite_host::SuiteHost;
use msix_backends::carry_out;
use msix_conformance::{
    Attachment, BackendLog, BusMaster, Choices, Claims, Device, ExclusiveBar, FunctionReset,
    HostCall, HostLog, HostScript, IntxCall, IntxLog, Layouts, Message, NoDevice, Placement,
    QemuField, Refused, SideChannel, Snapshots, Subject, Withdrawal,
};
use msix_core::{
    BarIndex, Boxed, Effects, Layout, LayoutError, Location, MAX_EFFECTS, Msix, NotCarriedOut,
    Policy, Region, Vector, VectorError,
};

/// The engine under one policy, with events that take one way.
#[derive(Debug, Clone, Copy)]
pub struct EngineSubject {
    policy: Policy,
    path: EventPath,
}

impl EngineSubject {
    /// The engine under `policy`.
    #[must_use]
    pub const fn new(policy: Policy, path: EventPath) -> Self {
        Self { policy, path }
    }
}

impl Subject for EngineSubject {
    fn name(&self) -> String {
        let (policy, path) = (policy_name(&self.policy), name_of(self.path));
        format!("engine, {policy}, {path}")
    }

    fn choices(&self) -> Choices {
        Choices::of(&self.policy)
    }

    fn device(&self, vectors: u32) -> Result<Box<dyn Device>, NoDevice> {
        device_on(vectors, self.policy, self.path, |_| Ok(ModelHost::default()))
    }

    fn layouts(&self) -> Option<&dyn Layouts> {
        Some(self)
    }
}

impl Layouts for EngineSubject {
    fn exclusive_bar(&self, vectors: u32) -> Result<ExclusiveBar, Refused> {
        let bar = BarIndex::new(3).map_err(Refused::because)?;
        let layout = Layout::exclusive_bar(vectors, bar).map_err(Refused::because)?;
        Ok(ExclusiveBar {
            table: layout.location(Region::Table).offset,
            pba: layout.location(Region::Pba).offset,
            size: layout.min_bar_size(bar),
        })
    }

    fn check(&self, placement: &Placement) -> Result<(), Refused> {
        let at = |(bar, offset)| BarIndex::new(bar).map(|bar| Location::new(bar, offset));
        let (table, pba) = (at(placement.table), at(placement.pba));
        let table = table.map_err(Refused::because)?;
        let pba = pba.map_err(Refused::because)?;
        let layout = Layout::new(placement.vectors, table, pba, &placement.bar_sizes);
        layout.map(drop).map_err(Refused::because)
    }
}

/// For the names of subjects.
#[must_use]
pub fn name_of(path: EventPath) -> &'static str {
    match path {
        EventPath::Userspace => "userspace",
        EventPath::Irqfd => "irqfd-like host",
    }
}

/// A vector number of a caller, who may name any.
///
/// # Errors
/// When it does not fit 16 bits.
pub fn vector_of(vector: u32) -> Result<Vector, Refused> {
    match u16::try_from(vector) {
        Ok(index) => Ok(Vector::new(index)),
        Err(_) => Err(Refused(format!("vector {vector} does not fit 16 bits"))),
    }
}

/// The engine, attached, with what `host` makes for its number of vectors under it.
pub(crate) fn device_on<H: SuiteHost + 'static>(
    vectors: u32,
    policy: Policy,
    path: EventPath,
    host: impl FnOnce(u16) -> Result<H, NoDevice>,
) -> Result<Box<dyn Device>, NoDevice> {
    let refused = |error: LayoutError| NoDevice::Refused(error.to_string());
    let bar = BarIndex::new(0).map_err(refused)?;
    let layout = Layout::exclusive_bar(vectors, bar).map_err(refused)?;
    let msix = Msix::boxed(layout, policy);
    let host = host(layout.vectors())?;
    let mut device = EngineDevice { msix, fx: Effects::new(), host, path };
    device.attach();
    Ok(Box::new(device))
}

type Fx = Effects<MAX_EFFECTS>;

struct EngineDevice<H> {
    msix: Msix<Boxed>,
    fx: Fx,
    host: H,
    path: EventPath,
}

impl<H: SuiteHost> EngineDevice<H> {
    /// One input, carried out to the end.
    fn input<T>(&mut self, input: impl FnOnce(&mut Msix<Boxed>, &mut Fx) -> T) -> T {
        let answer = input(&mut self.msix, &mut self.fx);
        carry_out(&mut self.msix, &mut self.fx, &mut self.host);
        // What the host cannot deliver, userspace reads from the eventfd (H11), and everything
        // while there is no host.
        let msix = &self.msix;
        let by_userspace =
            |v| !msix.is_attached() || msix.is_fallback(Vector::new(v)) == Some(true);
        for vector in self.host.take_held(&by_userspace) {
            let event = self.msix.notify(Vector::new(vector), &mut self.fx);
            event.expect("the host holds events of vectors of the table only");
            carry_out(&mut self.msix, &mut self.fx, &mut self.host);
        }
        answer
    }

    /// An input that can only be refused when a list was not carried out, which is done above.
    fn always<T>(
        &mut self,
        input: impl FnOnce(&mut Msix<Boxed>, &mut Fx) -> Result<T, NotCarriedOut>,
    ) {
        let answer = self.input(input);
        assert!(answer.is_ok(), "the list was carried out");
    }

    fn about<T>(
        &mut self,
        vector: u32,
        input: impl FnOnce(&mut Msix<Boxed>, Vector, &mut Fx) -> Result<T, VectorError>,
    ) -> Result<(), Refused> {
        let vector = vector_of(vector)?;
        self.input(|msix, fx| input(msix, vector, fx)).map(drop).map_err(Refused::because)
    }
}

impl<H: SuiteHost> Device for EngineDevice<H> {
    fn read_config(&mut self, offset: usize, bytes: &mut [u8]) {
        self.msix.read_config(offset, bytes);
    }

    fn write_config(&mut self, offset: usize, bytes: &[u8]) {
        self.always(|msix, fx| msix.write_config(offset, bytes, fx));
    }

    fn read_table(&mut self, offset: u64, bytes: &mut [u8]) {
        self.msix.read_table(offset, bytes);
    }

    fn write_table(&mut self, offset: u64, bytes: &[u8]) {
        self.always(|msix, fx| msix.write_table(offset, bytes, fx));
    }

    fn read_pba(&mut self, offset: u64, bytes: &mut [u8]) {
        self.always(|msix, fx| msix.poll_pba(offset, bytes.len(), fx));
        self.msix.read_pba(offset, bytes);
    }

    fn write_pba(&mut self, offset: u64, bytes: &[u8]) {
        let _ = self.msix.write_pba(offset, bytes);
    }

    fn fire(&mut self, vector: u32) -> Result<(), Refused> {
        let claims = vector_of(vector).ok().and_then(|v| self.msix.claims(v));
        // A device has an eventfd for the vectors it claims, and signals it while a backend listens.
        let listens = self.msix.is_attached() && !self.msix.is_loading();
        let by_host = self.path == EventPath::Irqfd && listens;
        match (claims, u16::try_from(vector)) {
            (Some(1..), Ok(v)) if by_host => {
                self.signal(v);
                Ok(())
            }
            _ => self.about(vector, Msix::notify),
        }
    }

    fn messages(&mut self) -> Vec<Message> {
        self.host.messages()
    }

    fn claims(&mut self) -> Option<&mut dyn Claims> {
        Some(self)
    }
    fn withdrawal(&mut self) -> Option<&mut dyn Withdrawal> {
        Some(self)
    }
    fn side_channel(&mut self) -> Option<&mut dyn SideChannel> {
        Some(self)
    }
    fn function_reset(&mut self) -> Option<&mut dyn FunctionReset> {
        Some(self)
    }
    fn bus_master(&mut self) -> Option<&mut dyn BusMaster> {
        Some(self)
    }
    fn intx(&mut self) -> Option<&mut dyn IntxLog> {
        Some(self)
    }
    fn host_log(&mut self) -> Option<&mut dyn HostLog> {
        Some(self)
    }
    fn host_script(&mut self) -> Option<&mut dyn HostScript> {
        Some(self)
    }
    fn backend_log(&mut self) -> Option<&mut dyn BackendLog> {
        self.host.backend_log()
    }
    fn attachment(&mut self) -> Option<&mut dyn Attachment> {
        Some(self)
    }
    fn snapshots(&mut self) -> Option<&mut dyn Snapshots> {
        Some(self)
    }
    fn qemu_field(&mut self) -> Option<&mut dyn QemuField> {
        Some(self)
    }
}

impl<H: SuiteHost> Claims for EngineDevice<H> {
    fn claim(&mut self, vector: u32) -> Result<(), Refused> {
        self.about(vector, Msix::claim)
    }

    fn unclaim(&mut self, vector: u32) -> Result<(), Refused> {
        self.about(vector, Msix::unclaim)
    }

    fn count(&mut self, vector: u32) -> Result<u32, Refused> {
        let count = self.msix.claims(vector_of(vector)?);
        count.map(u32::from).ok_or_else(|| Refused(format!("no vector {vector}")))
    }
}

impl<H: SuiteHost> Withdrawal for EngineDevice<H> {
    fn withdraw(&mut self, vector: u32) -> Result<(), Refused> {
        self.about(vector, Msix::withdraw)
    }
}

impl<H: SuiteHost> SideChannel for EngineDevice<H> {
    fn set_mask(&mut self, vector: u32, masked: bool) -> Result<(), Refused> {
        self.about(vector, |msix, vector, fx| msix.set_mask(vector, masked, fx))
    }

    fn set_message(&mut self, vector: u32, message: Message) -> Result<(), Refused> {
        self.about(vector, |msix, vector, fx| msix.set_message(vector, message, fx))
    }
}

impl<H: SuiteHost> FunctionReset for EngineDevice<H> {
    fn reset(&mut self) {
        self.always(Msix::reset);
    }
}

impl<H: SuiteHost> BusMaster for EngineDevice<H> {
    fn set_bus_master(&mut self, on: bool) {
        self.always(|msix, fx| msix.set_bus_master(on, fx));
    }
}

impl<H: SuiteHost> IntxLog for EngineDevice<H> {
    fn calls(&mut self) -> Vec<IntxCall> {
        self.host.intx()
    }
}

impl<H: SuiteHost> HostLog for EngineDevice<H> {
    fn calls(&mut self) -> Vec<HostCall> {
        self.host.calls()
    }
}

impl<H: SuiteHost> HostScript for EngineDevice<H> {
    fn fail_arm(&mut self, vector: u16, fail: bool) {
        self.host.fail_arm(vector, fail);
    }

    fn signal(&mut self, vector: u16) {
        self.host.signal(vector);
        self.input(|_, _| {});
    }
}

impl<H: SuiteHost> Attachment for EngineDevice<H> {
    fn attach(&mut self) {
        self.always(Msix::attach);
    }

    fn detach(&mut self) {
        self.always(Msix::detach);
        self.host.detached();
    }
}

impl<H: SuiteHost> Snapshots for EngineDevice<H> {
    fn save(&mut self) -> Vec<u8> {
        self.always(Msix::prepare_save);
        let mut bytes = vec![0; self.msix.saved_len()];
        self.msix.save(&mut bytes).expect("the buffer has the length asked for");
        bytes
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.msix.load(bytes).map_err(Refused::because)
    }

    fn resume(&mut self) {
        self.always(Msix::resume);
    }
}

impl<H: SuiteHost> QemuField for EngineDevice<H> {
    fn save_field(&mut self) -> Vec<u8> {
        self.always(Msix::prepare_save);
        let mut field = vec![0; self.msix.qemu_len()];
        self.msix.save_qemu(&mut field).expect("the buffer has the length asked for");
        field
    }

    fn load_field(&mut self, control: u16, field: &[u8]) -> Result<(), Refused> {
        self.msix.load_qemu(control, field).map_err(Refused::because)
    }

    fn resume_field(&mut self) {
        self.always(Msix::resume);
    }
}
