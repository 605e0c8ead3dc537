//! The two snapshot encodings (F3, and the engine's own).

use super::Reference;
use msix_core::LoadError;
use xxhash_rust::xxh64::xxh64;

impl Reference {
    /// Takes over the registers of the native encoding, if it is one of this function (C43).
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of the encoding's description.
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), LoadError> {
        let n = self.vectors();
        let expected = self.saved_registers().len() + 4;
        let wrong_length = Err(LoadError::Length { expected, got: bytes.len() });
        // Magic number, version and checksum are those of any snapshot.
        if bytes.len() < 10 {
            return wrong_length;
        }
        if &bytes[..4] != b"MSIX" {
            return Err(LoadError::Magic([bytes[0], bytes[1], bytes[2], bytes[3]]));
        }
        if !matches!(bytes[4..6], [1 | 2, 0]) {
            return Err(LoadError::Version(u16::from_le_bytes([bytes[4], bytes[5]])));
        }
        if bytes.len() < 16 {
            return wrong_length;
        }
        let vectors = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        if vectors as usize != n {
            return Err(LoadError::Vectors { snapshot: vectors, engine: n as u16 });
        }
        if bytes.len() != expected {
            return wrong_length;
        }
        let registers = &bytes[..expected - 4];
        if bytes != sealed(registers.to_vec()) {
            return Err(LoadError::Checksum);
        }
        self.check_control([bytes[6], bytes[7]])?;
        let (table, rest) = registers[12..].split_at(16 * n);
        let (pba, claims) = rest.split_at(self.pba.len());
        self.check_tail(pba)?;
        self.replace([bytes[6], bytes[7]], table, pba);
        self.claims =
            claims.chunks(2).map(|count| u16::from_le_bytes([count[0], count[1]])).collect();
        Ok(())
    }

    /// Takes over the registers of QEMU's encoding and Message Control (F3, F4).
    ///
    /// # Errors
    /// As [`Reference::load`]; bits past the last vector are an error by policy (H15).
    pub fn load_qemu(&mut self, control: u16, bytes: &[u8]) -> Result<(), LoadError> {
        let expected = self.saved_qemu().len();
        if bytes.len() != expected {
            return Err(LoadError::Length { expected, got: bytes.len() });
        }
        self.check_control(control.to_le_bytes())?;
        let (table, pba) = bytes.split_at(16 * self.vectors());
        if self.policy.reject_pba_tail {
            self.check_tail(pba)?;
        }
        self.replace(control.to_le_bytes(), table, pba);
        Ok(())
    }

    /// The read-only bits must be those of this function (F4).
    fn check_control(&self, control: [u8; 2]) -> Result<(), LoadError> {
        let value = u16::from_le_bytes(control);
        let vectors = value % 0x800 + 1;
        if usize::from(vectors) != self.vectors() {
            let engine = self.vectors() as u16;
            return Err(LoadError::Vectors { snapshot: u32::from(vectors), engine });
        }
        match value & 0x3800 {
            0 => Ok(()),
            _ => Err(LoadError::ReservedControl(value)),
        }
    }

    /// No bit past the last vector may be set.
    fn check_tail(&self, pba: &[u8]) -> Result<(), LoadError> {
        let set = |v: &usize| pba[v / 8] & (1 << (v % 8)) != 0;
        let tail = (self.vectors()..8 * pba.len()).filter(set).map(|v| 1 << (v % 64)).sum();
        if tail == 0 { Ok(()) } else { Err(LoadError::PbaTail(tail)) }
    }

    /// Takes over registers; the host is asked for nothing yet (H15).
    fn replace(&mut self, control: [u8; 2], table: &[u8], pba: &[u8]) {
        self.loaded();
        self.config[3] = control[1];
        for at in (0..table.len()).step_by(4) {
            let value = [table[at], table[at + 1], table[at + 2], table[at + 3]];
            self.store(at, u32::from_le_bytes(value));
        }
        self.stale.fill(false);
        for v in self.all() {
            self.set_pending(v, pba[v / 8] & (1 << (v % 8)) != 0);
        }
    }

    /// The native encoding.
    #[must_use]
    pub fn saved(&self) -> Vec<u8> {
        sealed(self.saved_registers())
    }

    /// The native encoding without its checksum.
    #[must_use]
    pub fn saved_registers(&self) -> Vec<u8> {
        let mut bytes = b"MSIX\x02\x00".to_vec();
        bytes.extend(&self.config[2..4]);
        bytes.extend((self.vectors() as u32).to_le_bytes());
        bytes.extend(&self.table);
        bytes.extend(&self.pba);
        bytes.extend(self.claims.iter().flat_map(|count| count.to_le_bytes()));
        bytes
    }

    /// QEMU's encoding (F3).
    #[must_use]
    pub fn saved_qemu(&self) -> Vec<u8> {
        let mut bytes = self.table.clone();
        bytes.extend(&self.pba[..self.vectors().div_ceil(8)]);
        bytes
    }
}

/// Appends the checksum that a native encoding of that version has, which its bytes 4 and 5 say.
///
/// # Panics
/// When there are none.
#[must_use]
pub fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let checksum = match bytes[4..6] {
        [1, 0] => crc32(&bytes),
        _ => xxh64(&bytes, 0) as u32, // its low half
    };
    bytes.extend(checksum.to_le_bytes());
    bytes
}

/// CRC-32 as in zip and Ethernet, a bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}
