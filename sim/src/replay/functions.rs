//! The PCI functions that a log speaks of, told apart by type name and BDF.

use super::unusable::Unusable;
use msix_peers::trace::Bdf;
use std::collections::HashMap;

/// A list of things that each belong to one function.
#[derive(Debug)]
pub(crate) struct Functions<T> {
    list: Vec<Named<T>>,
    at: HashMap<Option<Bdf>, Vec<usize>>,
}

/// What belongs to one function.
#[derive(Debug)]
pub(crate) struct Named<T> {
    pub(crate) name: String,
    /// `None` when the log has no configuration access of it.
    pub(crate) bdf: Option<Bdf>,
    pub(crate) of: T,
}

impl<T> Default for Functions<T> {
    fn default() -> Self {
        Self { list: Vec::new(), at: HashMap::new() }
    }
}

impl<T> Functions<T> {
    pub(crate) fn find(&self, name: &str, bdf: Option<Bdf>) -> Option<usize> {
        let here = self.at.get(&bdf)?;
        here.iter().copied().find(|&index| self.list.get(index).is_some_and(|f| f.name == name))
    }

    /// The function of that name, if there is exactly one.
    pub(crate) fn only_named(&self, name: &str) -> Option<usize> {
        let mut named = (0..).zip(&self.list).filter(|(_, function)| function.name == name);
        let (index, _) = named.next()?;
        named.next().is_none().then_some(index)
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Named<T>> {
        self.list.get(index)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Named<T>> {
        self.list.get_mut(index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Named<T>> {
        self.list.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Named<T>> {
        self.list.iter_mut()
    }
}

impl<T: Default> Functions<T> {
    /// The function of this name and place, new if the log did not speak of it before.
    pub(crate) fn known(
        &mut self,
        name: &str,
        bdf: Option<Bdf>,
        line: u64,
    ) -> Result<usize, Unusable> {
        if let Some(index) = self.find(name, bdf) {
            return Ok(index);
        }
        if self.list.len() == MAX_FUNCTIONS {
            return Err(Unusable::TooMany { line, what: "PCI functions", limit: MAX_FUNCTIONS });
        }
        let index = self.list.len();
        self.list.push(Named { name: name.to_owned(), bdf, of: T::default() });
        self.at.entry(bdf).or_default().push(index);
        Ok(index)
    }
}

/// The last configuration write, which may turn out to be the cause of an `msix_write_config`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastWrite {
    pub(crate) function: usize,
    pub(crate) offset: u16,
    pub(crate) value: u32,
    pub(crate) line: u64,
}

impl LastWrite {
    /// Whether it can be what `msix_write_config` on `line` reports. QEMU prints the two one
    /// after the other; lines of threads that do not hold its big lock may come between.
    pub(crate) fn explains<T>(&self, functions: &Functions<T>, name: &str, line: u64) -> bool {
        let same = functions.get(self.function).is_some_and(|function| function.name == name);
        same && self.offset >= 0x40 && line.saturating_sub(self.line) <= 8
    }

    /// Where the MSI-X capability begins if this write covered its control byte: capabilities are
    /// dword-aligned, and the byte is the last of the first dword (H19).
    pub(crate) const fn capability(&self) -> u16 {
        self.offset & !3
    }

    /// The bytes that the write put in the first dword of the capability, and where they begin.
    /// The log has no widths; the write reached byte 3, so it is as wide as that takes.
    pub(crate) fn control_bytes(&self) -> (usize, Vec<u8>) {
        let offset = usize::from(self.offset & 3);
        (offset, self.value.to_le_bytes().into_iter().take(4 - offset).collect())
    }

    /// Message Control's table size field as the guest wrote it back, as a number of vectors.
    pub(crate) fn size_written(&self) -> Option<u16> {
        let (offset, bytes) = self.control_bytes();
        let low = bytes.get(2_usize.checked_sub(offset)?)?;
        let high = bytes.get(3_usize.checked_sub(offset)?)?;
        Some((u16::from_le_bytes([*low, *high]) & 0x7ff) + 1) // A1
    }
}

/// Bounds what a hostile log can make us remember.
const MAX_FUNCTIONS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_functions_of_one_name_are_told_apart_by_their_place() {
        let mut functions = Functions::<u8>::default();
        let at = |device| Some(Bdf { bus: 0, device, function: 0 });
        let first = functions.known("nvme", at(4), 1).unwrap();
        assert_eq!(functions.only_named("nvme"), Some(first));
        let second = functions.known("nvme", at(5), 2).unwrap();
        assert_ne!(first, second);
        assert_eq!(functions.known("nvme", at(4), 3).unwrap(), first);
        assert_eq!(functions.only_named("nvme"), None);
        assert_eq!(functions.find("e1000e", at(4)), None);
    }

    #[test]
    fn more_functions_than_any_machine_has_are_refused() {
        let mut functions = Functions::<u8>::default();
        for n in 0..MAX_FUNCTIONS {
            functions.known(&n.to_string(), None, 1).unwrap();
        }
        let error = functions.known("x", None, 7).unwrap_err();
        assert_eq!(error.to_string(), "more than 1024 PCI functions");
        assert_eq!(error.line(), 7);
    }
}
