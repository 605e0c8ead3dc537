//! What a log is, by its beginning.

use msix_peers::kernel_trace::parse_kernel_line;
use msix_peers::trace::parse_line;
use std::io::{self, BufRead, Read as _};

/// What a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A trace log of QEMU, or nothing that is known.
    Qemu,
    /// A recording of the kernel's trace events.
    Kernel,
    /// Something that has to be made text first: what, and how.
    NotText(&'static str),
}

impl Kind {
    /// Reads the beginning of a log.
    pub(super) fn of(log: &mut impl BufRead) -> io::Result<Self> {
        let mut start = Vec::new();
        log.take(LOOK).read_to_end(&mut start)?;
        if let Some((_, reason)) = NOT_TEXT.iter().find(|(magic, _)| start.starts_with(magic)) {
            return Ok(Self::NotText(reason));
        }
        for line in start.split(|&byte| byte == b'\n') {
            let header = line.starts_with(b"# tracer:") || line.starts_with(b"cpus=");
            if header || !matches!(parse_kernel_line(line), Ok(None)) {
                // What is neither is refused as QEMU's.
                let neither = parse_line(line) != Ok(None);
                return Ok(if neither { Self::Qemu } else { Self::Kernel });
            }
            if parse_line(line) != Ok(None) {
                return Ok(Self::Qemu);
            }
        }
        Ok(Self::Qemu)
    }
}

/// Bytes in which a log must show what it is.
const LOOK: u64 = 1 << 20;

const NOT_TEXT: [(&[u8], &str); 11] = [
    (&SIMPLE, SIMPLE_SAYS),
    (&SIMPLE_SWAPPED, SIMPLE_SAYS),
    (
        b"\x17\x08Dtracing",
        "it is a trace.dat of trace-cmd: give what 'trace-cmd report' prints of it",
    ),
    (b"PERFILE2", "it is a perf.data of perf: give what 'perf script' prints of it"),
    (b"2ELIFREP", "it is a perf.data of perf: give what 'perf script' prints of it"),
    (&[0x1f, 0x8b], "it is packed with gzip: unpack it"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "it is packed with xz: unpack it, or pack it with gzip"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "it is packed with zstd: unpack it, or pack it with gzip"),
    (b"BZh", "it is packed with bzip2: unpack it, or pack it with gzip"),
    (&[0xff, 0xfe], "it is UTF-16: write it as UTF-8"),
    (&[0xfe, 0xff], "it is UTF-16: write it as UTF-8"),
];
/// The header's event number, and a magic number.
const SIMPLE: [u8; 16] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xb4, 0x29, 0xa4, 0x0a, 0xcb, 0x77, 0xb1, 0xf2,
];
const SIMPLE_SWAPPED: [u8; 16] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xf2, 0xb1, 0x77, 0xcb, 0x0a, 0xa4, 0x29, 0xb4,
];
const SIMPLE_SAYS: &str = "it is a trace of QEMU's 'simple' backend, which is binary: record with the 'log' \
    backend, or give what QEMU's scripts/simpletrace.py prints of it";

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &[u8]) -> Kind {
        Kind::of(&mut &*text).unwrap()
    }

    #[test]
    fn a_log_shows_what_it_is_by_its_first_line_that_says_so() {
        let kernel = "x\n a-1 [000] 1.000000: kvm_pio: pio_read at 0x1 size 1 count 1 val 0x1\n";
        let qemu = "x\nmsix_write_config dev nvme enabled 1 masked 0\n";
        assert_eq!(kind(kernel.as_bytes()), Kind::Kernel);
        assert_eq!(kind(b"# tracer: nop\n"), Kind::Kernel);
        assert_eq!(kind(b"cpus=2\n"), Kind::Kernel);
        assert_eq!(kind(qemu.as_bytes()), Kind::Qemu);
        assert_eq!(kind([qemu, kernel].concat().as_bytes()), Kind::Qemu);
        assert_eq!(kind(b"hello"), Kind::Qemu);
        assert_eq!(kind(b"a\xff\n"), Kind::Qemu);
    }

    #[test]
    fn what_is_not_text_is_named() {
        for (start, name) in [
            (&SIMPLE[..], "'simple'"),
            (&SIMPLE_SWAPPED, "'simple'"),
            (b"\x17\x08Dtracing6", "trace.dat"),
            (b"PERFILE2h", "perf.data"),
            (&[0x1f, 0x8b, 8], "gzip"),
            (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
            (&[0xff, 0xfe, b'm', 0], "UTF-16"),
        ] {
            assert!(matches!(kind(start), Kind::NotText(says) if says.contains(name)), "{name}");
        }
    }
}
