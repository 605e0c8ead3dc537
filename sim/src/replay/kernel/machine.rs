//! What is known of a guest's functions besides the recording: from `lspci -vvv`, or said by hand.

use msix_peers::trace::Bdf;

/// The functions of a guest.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// Functions with MSI-X, and how they were found.
    pub functions: Vec<MachineFunction>,
    /// Where the guest has configuration space in memory (ECAM).
    pub ecam: Option<u64>,
    /// Whether `functions` are all that the guest has with MSI-X.
    pub all: bool,
}

/// A function with MSI-X.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineFunction {
    /// Where it is.
    pub bdf: Bdf,
    /// What it is called; empty if that is not known.
    pub name: String,
    /// Number of vectors.
    pub vectors: u16,
    /// Offset of the MSI-X capability, if known.
    pub capability: Option<u16>,
    /// Offset of the PCI Express capability, if it has one.
    pub express: Option<u16>,
    /// Where the table is.
    pub table: TableAt,
    /// Where the PBA is, if known.
    pub pba: Option<TableAt>,
    /// Addresses of the memory BARs, if they are placed.
    pub bars: [Option<u64>; 6],
    /// MSI-X Enable and Function Mask when the recording begins, if known.
    pub control: Option<(bool, bool)>,
}

/// A place in the memory of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableAt {
    /// In a BAR.
    Bar {
        /// Which, 0 to 5.
        bar: u8,
        /// Offset in bytes.
        offset: u64,
    },
    /// At this guest physical address, for good.
    Address(u64),
}

/// Why a description of functions cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// There is no function with MSI-X in it.
    #[error("there is no function with MSI-X in it: give the output of lspci -vvv, run as root")]
    NoMsix,
    /// A line of a function with MSI-X that does not parse.
    #[error("line {line}: {wanted} expected")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What belongs there.
        wanted: &'static str,
    },
    /// More functions than a machine has.
    #[error("more than {MAX_FUNCTIONS} functions")]
    TooMany,
    /// A function said by hand that does not parse.
    #[error("{wanted} expected, as in 00:04.0,vectors=3,table=0xfebc2000,pba=0xfebc3000")]
    Said {
        /// What belongs there.
        wanted: &'static str,
    },
}

impl Machine {
    /// Reads the output of `lspci -vvv` of the guest.
    ///
    /// # Errors
    /// [`MachineError`] when it has no function with MSI-X, or one that it does not tell all of.
    pub fn read_lspci(text: &str) -> Result<Self, MachineError> {
        let mut functions = Vec::new();
        let mut now = Lspci::default();
        for (line, text) in (1..).zip(text.lines()) {
            if let Some((bdf, name)) = header(text) {
                functions.extend(std::mem::replace(&mut now, Lspci::new(bdf, name)).finish()?);
                if functions.len() > MAX_FUNCTIONS {
                    return Err(MachineError::TooMany);
                }
            } else {
                now.line(line, text.trim())?;
            }
        }
        functions.extend(now.finish()?);
        if functions.is_empty() {
            return Err(MachineError::NoMsix);
        }
        Ok(Self { functions, ecam: None, all: true })
    }
}

impl std::str::FromStr for MachineFunction {
    type Err = MachineError;

    /// Reads `BDF,vectors=N,table=ADDRESS[,pba=ADDRESS][,capability=OFFSET][,enabled]`.
    fn from_str(text: &str) -> Result<Self, MachineError> {
        let wrong = |wanted| MachineError::Said { wanted };
        let mut parts = text.split(',');
        let bdf = parts.next().and_then(bdf).ok_or(wrong("BUS:DEVICE.FUNCTION"))?;
        let (mut vectors, mut table, mut pba, mut capability) = (None, None, None, None);
        let mut control = None;
        for part in parts {
            match part.split_once('=') {
                Some(("vectors", number)) => {
                    let count = number.parse().ok().filter(|count| (1..=2048).contains(count));
                    vectors = Some(count.ok_or(wrong("vectors=1 to 2048"))?);
                }
                Some(("table", place)) => {
                    table = Some(address(place).ok_or(wrong("table=0xADDRESS"))?);
                }
                Some(("pba", place)) => {
                    pba = Some(address(place).ok_or(wrong("pba=0xADDRESS"))?);
                }
                Some(("capability", at)) => {
                    let at = address(at).and_then(|at| u16::try_from(at).ok());
                    let at = at.filter(|at| (0x40..0x100).contains(at) && at % 4 == 0);
                    capability = Some(at.ok_or(wrong("capability=0x40 to 0xfc"))?);
                }
                None if part == "enabled" => control = Some((true, false)),
                _ => return Err(wrong("vectors=, table=, pba=, capability= or enabled")),
            }
        }
        Ok(Self {
            bdf,
            name: String::new(),
            vectors: vectors.ok_or(wrong("vectors=N"))?,
            capability,
            express: None,
            table: TableAt::Address(table.ok_or(wrong("table=0xADDRESS"))?),
            pba: pba.map(TableAt::Address),
            bars: [None; 6],
            control,
        })
    }
}

/// A function whose lines are being read.
#[derive(Default)]
struct Lspci {
    bdf: Option<Bdf>,
    name: String,
    /// Offset, enabled, vectors, masked.
    msix: Option<(u16, bool, u16, bool)>,
    msix_line: usize,
    table: Option<TableAt>,
    pba: Option<TableAt>,
    express: Option<u16>,
    bars: [Option<u64>; 6],
}

impl Lspci {
    fn new(bdf: Option<Bdf>, name: String) -> Self {
        Self { bdf, name, ..Self::default() }
    }

    fn line(&mut self, line: usize, text: &str) -> Result<(), MachineError> {
        let wrong = |wanted| MachineError::Line { line, wanted };
        if let Some(rest) = text.strip_prefix("Region ") {
            let (index, place) = rest.split_once(": Memory at ").unwrap_or((rest, ""));
            let place = place.split(' ').next().unwrap_or_default();
            // Neither <unassigned> nor <ignored> is a number.
            let place = u64::from_str_radix(place, 16).ok();
            if let Some(bar) = index.parse().ok().and_then(|index: usize| self.bars.get_mut(index))
            {
                *bar = place;
            }
        } else if let Some(rest) = text.strip_prefix("Capabilities: [") {
            let Some((at, what)) = rest.split_once("] ") else { return Ok(()) };
            let at = u16::from_str_radix(at.split(' ').next().unwrap_or_default(), 16).ok();
            if let Some(what) = what.strip_prefix("MSI-X: ") {
                self.msix = Some(msix(at, what).ok_or(wrong("Enable+ Count=N Masked-"))?);
                self.msix_line = line;
            } else if what.starts_with("Express ") {
                self.express = at;
            }
        } else if let Some(place) = text.strip_prefix("Vector table: ") {
            self.table = Some(placed(place).ok_or(wrong("BAR=N offset=OFFSET"))?);
        } else if let Some(place) = text.strip_prefix("PBA: ") {
            self.pba = Some(placed(place).ok_or(wrong("BAR=N offset=OFFSET"))?);
        }
        Ok(())
    }

    fn finish(self) -> Result<Option<MachineFunction>, MachineError> {
        let (Some(bdf), Some((at, enabled, vectors, masked))) = (self.bdf, self.msix) else {
            return Ok(None);
        };
        let wanted = "a line with 'Vector table:' after it";
        let table = self.table.ok_or(MachineError::Line { line: self.msix_line, wanted })?;
        Ok(Some(MachineFunction {
            bdf,
            name: self.name,
            vectors,
            capability: Some(at),
            express: self.express,
            table,
            pba: self.pba,
            bars: self.bars,
            control: Some((enabled, masked)),
        }))
    }
}

/// `00:04.0 Class: Name`, with a domain before it or not. A function of another domain than 0 is none
/// that ports reach.
fn header(text: &str) -> Option<(Option<Bdf>, String)> {
    let (place, rest) = text.split_once(' ')?;
    let (domain, place) = match place.split(':').count() {
        3 => place.split_once(':')?,
        _ => ("0000", place),
    };
    let found = bdf(place)?;
    let name = rest.split_once(": ").map_or(rest, |(_, name)| name);
    let name = name.split(" (rev ").next().unwrap_or_default();
    Some(((domain == "0000").then_some(found), name.chars().take(MAX_NAME).collect()))
}

/// `Enable+ Count=3 Masked-`.
fn msix(at: Option<u16>, text: &str) -> Option<(u16, bool, u16, bool)> {
    let mut words = text.split(' ');
    let enabled = sign(words.next()?.strip_prefix("Enable")?)?;
    let count = words.next()?.strip_prefix("Count=")?.parse().ok();
    let masked = sign(words.next()?.strip_prefix("Masked")?)?;
    Some((at?, enabled, count.filter(|count| (1..=2048).contains(count))?, masked))
}

fn sign(text: &str) -> Option<bool> {
    match text {
        "+" => Some(true),
        "-" => Some(false),
        _ => None,
    }
}

/// `BAR=0 offset=00008000`.
fn placed(text: &str) -> Option<TableAt> {
    let (bar, offset) = text.strip_prefix("BAR=")?.split_once(" offset=")?;
    let bar = bar.parse().ok().filter(|bar| *bar < 6)?;
    Some(TableAt::Bar { bar, offset: u64::from_str_radix(offset, 16).ok()? })
}

/// `0xfebc2000`.
fn address(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// `00:04.0`.
fn bdf(text: &str) -> Option<Bdf> {
    text.parse().ok()
}

/// Bounds what a hostile text can make us remember.
const MAX_FUNCTIONS: usize = 4096;
const MAX_NAME: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    const LSPCI: &str = "\
00:00.0 Host bridge: Intel Corporation Device 0d57
\tCapabilities: [40] MSI: Enable- Count=1/1 Maskable- 64bit+

0000:00:01.0 SCSI storage controller: Red Hat, Inc. Virtio 1.0 block device (rev 01)
\tSubsystem: Red Hat, Inc. Virtio 1.0 block device
\tRegion 0: Memory at e7f80000 (32-bit, non-prefetchable) [size=512K]
\tRegion 1: Memory at <unassigned> (32-bit, non-prefetchable) [disabled]
\tRegion 2: I/O ports at c040 [size=32]
\tCapabilities: [80] Express (v2) Root Complex Integrated Endpoint, MSI 00
\tCapabilities: [98] MSI-X: Enable+ Count=3 Masked-
\t\tVector table: BAR=0 offset=00008000
\t\tPBA: BAR=0 offset=00048000
\tCapabilities: [100 v1] Null

0001:00:02.0 Ethernet controller: elsewhere
\tCapabilities: [98] MSI-X: Enable+ Count=3 Masked-
";

    #[test]
    fn what_lspci_says_of_msix_is_read() {
        let machine = Machine::read_lspci(LSPCI).unwrap();
        let [function] = &*machine.functions else { panic!("{machine:?}") };
        let expected = MachineFunction {
            bdf: Bdf { bus: 0, device: 1, function: 0 },
            name: "Red Hat, Inc. Virtio 1.0 block device".to_owned(),
            vectors: 3,
            capability: Some(0x98),
            express: Some(0x80),
            table: TableAt::Bar { bar: 0, offset: 0x8000 },
            pba: Some(TableAt::Bar { bar: 0, offset: 0x4_8000 }),
            bars: [Some(0xe7f8_0000), None, None, None, None, None],
            control: Some((true, false)),
        };
        assert_eq!(*function, expected);
    }

    #[test]
    fn what_lspci_does_not_say_is_refused_by_its_line() {
        assert_eq!(Machine::read_lspci("").unwrap_err(), MachineError::NoMsix);
        let cut = LSPCI.replace("\t\tVector table: BAR=0 offset=00008000\n", "");
        let error = Machine::read_lspci(&cut).unwrap_err().to_string();
        assert_eq!(error, "line 10: a line with 'Vector table:' after it expected");
        for (from, to, line) in [
            ("Count=3", "Count=2049", 10),
            ("Enable+ C", "Enable C", 10),
            ("BAR=0 offset=00008000", "BAR=6 offset=0", 11),
            ("BAR=0 offset=00048000", "BAR=0 offset=x", 12),
        ] {
            let error = Machine::read_lspci(&LSPCI.replace(from, to)).unwrap_err();
            assert!(error.to_string().starts_with(&format!("line {line}: ")), "{error}");
        }
    }

    #[test]
    fn a_function_can_be_said_by_hand() {
        let text = "00:04.0,vectors=3,table=0xfebc2000,pba=0xfebc3000,capability=0x98,enabled";
        let function: MachineFunction = text.parse().unwrap();
        assert_eq!(function.bdf, Bdf { bus: 0, device: 4, function: 0 });
        assert_eq!((function.vectors, function.capability), (3, Some(0x98)));
        assert_eq!(function.table, TableAt::Address(0xfebc_2000));
        assert_eq!(function.pba, Some(TableAt::Address(0xfebc_3000)));
        assert_eq!(function.control, Some((true, false)));
        for (text, wanted) in [
            ("x", "BUS:DEVICE.FUNCTION"),
            ("00:04.0,vectors=0,table=0x1", "vectors=1 to 2048"),
            ("00:04.0,vectors=3,table=1", "table=0xADDRESS"),
            ("00:04.0,vectors=3", "table=0xADDRESS"),
            ("00:04.0,vectors=3,table=0x0,capability=0x41", "capability=0x40 to 0xfc"),
            ("00:04.0,disabled", "vectors=, table="),
        ] {
            let error = text.parse::<MachineFunction>().unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{text}: {error}");
        }
    }
}
