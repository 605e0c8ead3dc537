//! The version of the library, in the header and at run time.

/// Major version of this header. A program must be linked with a library of the same one.
pub const MSIX_VERSION_MAJOR: u32 = 0;
/// Minor version of this header. While the major version is 0 it must be the library's too.
pub const MSIX_VERSION_MINOR: u32 = 1;
/// Patch version of this header.
pub const MSIX_VERSION_PATCH: u32 = 0;

/// Returns the version of the library that is linked: major << 16 | minor << 8 | patch. Compare it with
/// MSIX_VERSION, which is that of the header.
#[unsafe(no_mangle)]
pub extern "C" fn msix_version() -> u32 {
    MSIX_VERSION_MAJOR << 16 | MSIX_VERSION_MINOR << 8 | MSIX_VERSION_PATCH
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn the_header_has_the_version_of_the_package() {
        let version = format!("{MSIX_VERSION_MAJOR}.{MSIX_VERSION_MINOR}.{MSIX_VERSION_PATCH}");
        assert_eq!(version, env!("CARGO_PKG_VERSION"));
    }
}
