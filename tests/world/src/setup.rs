//! Which function stands in a world, and which inputs it can have.

use crate::input::{Call, Input};

/// A function's parts and surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// Device vectors, 1 to 4: of MSI-X and of MSI alike.
    pub vectors: u8,
    /// It has MSI-X.
    pub msix: bool,
    /// It has MSI.
    pub msi: Option<MsiShape>,
    /// It has a pin.
    pub pin: bool,
    /// What is behind it.
    pub behind: Behind,
    /// Who else writes its eventfds.
    pub producers: Producers,
    /// The host has one vector less for MSI than the device has, while the world goes on.
    pub scarce: bool,
    /// The kernel cannot bind more vectors of MSI-X than it did at first (D6, D16).
    pub noresize: bool,
    /// The device keeps the events of masked vectors itself.
    pub keeps_masked: bool,
    /// The VM has local APICs alone in the kernel (K1, K12).
    pub split: bool,
    /// Its messages are those to a GICv2m frame: to KVM, pins of SPIs (K16).
    pub frame: bool,
    /// Routes wait for each other until the loop runs.
    pub deferred: bool,
    /// The engine tells no rewrite of a live message, as QEMU does of MSI-X (H4).
    pub lazy: bool,
}

/// The shape of an MSI capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsiShape {
    /// Its address has 64 bits.
    pub wide: bool,
    /// It has mask and pending bits.
    pub masks: bool,
}

/// What is behind a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// An emulated device.
    Emulated,
    /// A real one. Userspace brings its line to the guest.
    Device,
    /// A real one. KVM brings its line to the guest, with resampling.
    ResampledDevice,
}

/// Who writes eventfds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Producers {
    /// Nobody but a real device.
    None,
    /// Others write eventfds that the function made.
    Own,
    /// Others write eventfds that they made.
    Connected,
    /// Others do, and their eventfds are connected when they say so.
    Late,
}

impl Setup {
    /// An emulated function with MSI-X alone.
    #[must_use]
    pub const fn msix(vectors: u8) -> Self {
        Self {
            vectors,
            msix: true,
            msi: None,
            pin: false,
            behind: Behind::Emulated,
            producers: Producers::None,
            scarce: false,
            noresize: false,
            keeps_masked: false,
            split: false,
            frame: false,
            deferred: false,
            lazy: false,
        }
    }

    /// An emulated function with MSI alone.
    #[must_use]
    pub const fn msi(vectors: u8, wide: bool, masks: bool) -> Self {
        Self { msix: false, msi: Some(MsiShape { wide, masks }), ..Self::msix(vectors) }
    }

    /// An emulated function with a pin alone.
    #[must_use]
    pub const fn pin() -> Self {
        Self { msix: false, pin: true, ..Self::msix(1) }
    }

    /// Functions of one vector, with their names: every mode, emulated, connected and passed through.
    #[must_use]
    pub fn single() -> Vec<(&'static str, Self)> {
        let (device, resampled) = (Behind::Device, Behind::ResampledDevice);
        let (own, connected, late) = (Producers::Own, Producers::Connected, Producers::Late);
        let all = Self { pin: true, msi: Self::msi(1, true, true).msi, ..Self::msix(1) };
        vec![
            ("msix", Self::msix(1)),
            ("msix-own", Self { producers: own, ..Self::msix(1) }),
            ("msix-connected", Self { producers: connected, ..Self::msix(1) }),
            ("msix-device", Self { behind: device, ..Self::msix(1) }),
            ("msix-pin", Self { pin: true, ..Self::msix(1) }),
            ("msix-pin-device", Self { pin: true, behind: device, ..Self::msix(1) }),
            ("msix-pin-resampled", Self { pin: true, behind: resampled, ..Self::msix(1) }),
            ("msix-lazy", Self { lazy: true, producers: own, ..Self::msix(1) }),
            ("msi", Self::msi(1, false, false)),
            ("msi-wide", Self::msi(1, true, false)),
            ("msi-masks", Self::msi(1, true, true)),
            ("msi-own", Self { producers: own, ..Self::msi(1, true, true) }),
            ("msi-lazy", Self { lazy: true, producers: own, ..Self::msi(1, true, true) }),
            ("msi-pin-device", Self { pin: true, behind: device, ..Self::msi(1, true, true) }),
            (
                "msi-pin-resampled",
                Self { pin: true, behind: resampled, ..Self::msi(1, true, false) },
            ),
            ("msi-scarce", Self { scarce: true, behind: device, ..Self::msi(1, true, true) }),
            ("pin", Self::pin()),
            ("pin-device", Self { behind: device, ..Self::pin() }),
            ("pin-resampled", Self { behind: resampled, ..Self::pin() }),
            ("all", all),
            ("all-own", Self { producers: own, ..all }),
            ("all-device", Self { behind: device, ..all }),
            ("all-resampled", Self { behind: resampled, ..all }),
            ("msix-late", Self { producers: late, ..Self::msix(1) }),
            ("msi-late", Self { producers: late, ..Self::msi(1, true, true) }),
            ("all-late", Self { producers: late, ..all }),
            ("msix-device-noresize", Self { behind: device, noresize: true, ..Self::msix(1) }),
            ("msix-device-keeps", Self { behind: device, keeps_masked: true, ..Self::msix(1) }),
            (
                "all-device-keeps",
                Self { behind: device, keeps_masked: true, noresize: true, ..all },
            ),
            ("msix-split", Self { split: true, ..Self::msix(1) }),
            ("pin-split", Self { split: true, behind: resampled, ..Self::pin() }),
            ("msix-frame", Self { frame: true, producers: own, ..Self::msix(1) }),
            ("all-frame", Self { frame: true, producers: own, ..all }),
            ("all-split", Self { split: true, behind: resampled, ..all }),
        ]
    }

    /// The same functions with more vectors, 2 to 4.
    #[must_use]
    pub fn several(vectors: u8) -> Vec<(&'static str, Self)> {
        let of = |(name, setup): (_, Self)| (name, Self { vectors, ..setup });
        Self::single().into_iter().map(of).filter(|(_, setup)| setup.has_messages()).collect()
    }

    /// Whether it has MSI-X or MSI.
    #[must_use]
    pub const fn has_messages(&self) -> bool {
        self.msix || self.msi.is_some()
    }

    /// Whether a real device is behind it.
    #[must_use]
    pub const fn is_physical(&self) -> bool {
        !matches!(self.behind, Behind::Emulated)
    }

    /// The inputs that can make a difference to this function, but for failures.
    #[must_use]
    pub fn alphabet(&self) -> Vec<Input> {
        use Input::*;
        let mut all = vec![Attach, Detach, Save, Load, NewProcess, Resume, Reset, Loop];
        let both = [false, true];
        for bus_master in both {
            let disables = both.into_iter().filter(|&disable| self.pin || !disable);
            all.extend(disables.map(|intx_disable| Command { bus_master, intx_disable }));
        }
        if self.split {
            all.extend(both.map(KeepRoutes));
        }
        if self.pin {
            all.extend([ReadStatus, Eoi, Level(false), Level(true)]);
        }
        if self.msix {
            all.extend([ReadMsix, ReadPba]);
            for enable in both {
                all.extend(both.map(|mask| MsixControl { enable, mask }));
            }
        }
        if let Some(shape) = self.msi {
            all.push(ReadMsi);
            let most = self.vectors.next_power_of_two().trailing_zeros() as u8;
            for enable in both {
                all.extend((0..=most).map(|log| MsiControl { enable, log }));
            }
            all.extend(both.map(MsiAddress));
            all.extend(both.map(MsiData));
            if shape.masks {
                all.extend((0..1 << self.vectors).map(MsiMask));
            }
        }
        (0..self.vectors).for_each(|vector| all.extend(self.of_vector(vector)));
        all.extend(self.half_writes());
        all
    }

    /// Those of the alphabet that name a vector.
    fn of_vector(&self, vector: u8) -> Vec<Input> {
        use Input::*;
        let mut all = Vec::new();
        if self.has_messages() {
            all.push(Event(vector));
            if !self.is_physical() {
                all.push(Withdraw(vector));
            }
            if self.producers != Producers::None {
                all.push(Produce(vector));
            }
            if self.producers == Producers::Late {
                all.push(Connect(vector));
            }
        }
        if self.msix {
            if !self.is_physical() {
                all.extend([Claim(vector), Unclaim(vector)]);
            }
            for alt in [false, true] {
                all.extend([Mask(vector, alt), Address(vector, alt), Data(vector, alt)]);
                all.push(DataAndMask(vector, alt, false));
            }
        }
        all
    }

    /// Writes of a part of an address.
    fn half_writes(&self) -> Vec<Input> {
        use Input::*;
        let mut all = Vec::new();
        for alt in [false, true] {
            for vector in (0..self.vectors).filter(|_| self.msix) {
                all.extend([AddressLow(vector, alt), AddressHigh(vector, alt)]);
            }
            if let Some(shape) = self.msi {
                all.push(MsiAddressByte(alt));
                if shape.wide {
                    all.extend([MsiAddressLow(alt), MsiAddressHigh(alt)]);
                }
            }
        }
        all
    }

    /// All inputs, failures too.
    #[must_use]
    pub fn fuzzed(&self) -> Vec<Input> {
        [self.alphabet(), self.failures()].concat()
    }

    /// The failures that can make a difference to this function.
    #[must_use]
    pub fn failures(&self) -> Vec<Input> {
        let has = |call: &Call| match call {
            Call::Commit | Call::Assign | Call::Deassign | Call::Signal => {
                self.msix || self.msi.is_some()
            }
            Call::Resample => self.pin && self.behind == Behind::ResampledDevice && !self.split,
            Call::SetIrqs => self.is_physical(),
            Call::Disable => self.is_physical() && self.msix,
        };
        Call::ALL.into_iter().filter(has).map(Input::Fail).collect()
    }
}
