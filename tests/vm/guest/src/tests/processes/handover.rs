//! What a process leaves for the next: a file.

use crate::controllers::Controllers;
use crate::tests::text;

pub(super) struct Handover {
    /// The function.
    pub(super) snapshot: Vec<u8>,
    /// What the guest reads of it.
    pub(super) registers: Vec<u8>,
    /// The interrupt controllers.
    pub(super) controllers: Controllers,
}

impl Handover {
    pub(super) fn write(&self) -> Result<(), String> {
        let mut all = Vec::new();
        for part in [&self.snapshot, &self.registers, &self.controllers.to_bytes()] {
            all.extend(part.len().to_le_bytes());
            all.extend(part);
        }
        std::fs::write(FILE, all).map_err(text)
    }

    /// Takes it: it is there once.
    pub(super) fn take() -> Result<Self, String> {
        let all = std::fs::read(FILE).map_err(text)?;
        std::fs::remove_file(FILE).map_err(text)?;
        let mut rest = &*all;
        let mut part = || -> Option<Vec<u8>> {
            let (len, behind) = rest.split_first_chunk()?;
            let (part, behind) = behind.split_at_checked(usize::from_le_bytes(*len))?;
            rest = behind;
            Some(part.to_vec())
        };
        let mut parts = || {
            let (snapshot, registers) = (part()?, part()?);
            let controllers = Controllers::from_bytes(&part()?)?;
            Some(Self { snapshot, registers, controllers })
        };
        parts().ok_or_else(|| "a process left half a file".to_owned())
    }
}

const FILE: &str = "/handover";
