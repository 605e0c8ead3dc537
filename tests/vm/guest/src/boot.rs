//! What an init has to do: file systems, modules, drivers, and the end.

use rustix::mount::{MountFlags, mount};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Mounts what everything else needs.
pub(crate) fn mount_all() -> Result<(), String> {
    for (kind, place) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("tracefs", "/sys/kernel/tracing"),
    ] {
        fs::create_dir_all(place).map_err(|error| format!("{place}: {error}"))?;
        mount(kind, place, kind, MountFlags::empty(), None)
            .map_err(|error| format!("mounting {place}: {error}"))?;
    }
    Ok(())
}

/// Loads every file of `/modules`, in the order of their names.
pub(crate) fn load_modules() -> Result<(), String> {
    let files = fs::read_dir("/modules").map_err(|error| format!("/modules: {error}"))?;
    let mut files: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    files.sort();
    for path in files {
        let named = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = fs::File::open(&path).map_err(named)?;
        rustix::system::finit_module(file, c"", 0).map_err(|error| named(error.into()))?;
    }
    Ok(())
}

/// Folders in sysfs of the functions with these ids.
pub(crate) fn functions(vendor: u16, device: u16) -> Result<Vec<PathBuf>, String> {
    let all = fs::read_dir("/sys/bus/pci/devices").map_err(|error| error.to_string())?;
    let has = |folder: &Path, file: &str, id: u16| {
        fs::read_to_string(folder.join(file)).is_ok_and(|text| text.trim() == format!("{id:#06x}"))
    };
    let mut found: Vec<PathBuf> = all
        .flatten()
        .map(|function| function.path())
        .filter(|path| has(path, "vendor", vendor) && has(path, "device", device))
        .collect();
    found.sort();
    Ok(found)
}

/// Has a thread say over and over, until the end, that the kernel runs programs. When it is not heard any more
/// the machine's processors are at fault: no test can keep a kernel from this.
pub(crate) fn beat() {
    std::thread::spawn(|| {
        loop {
            println!("VM-ALIVE");
            std::thread::sleep(Duration::from_secs(2));
        }
    });
}

/// Takes a function from its driver, if it has another, and gives it to vfio-pci.
pub(crate) fn bind_to_vfio(function: &Path) -> Result<(), String> {
    let driver = function.join("driver");
    if fs::read_link(&driver).is_ok_and(|driver| driver.ends_with("vfio-pci")) {
        return Ok(());
    }
    let name = function.file_name().unwrap_or_default().to_string_lossy();
    let write = |path: &Path, text: &str| {
        fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
    };
    write(&function.join("driver_override"), "vfio-pci")?;
    if driver.exists() {
        write(&driver.join("unbind"), &name)?;
    }
    write(Path::new("/sys/bus/pci/drivers_probe"), &name)?;
    match fs::read_link(&driver) {
        Ok(driver) if driver.ends_with("vfio-pci") => Ok(()),
        other => Err(format!("{name} is not bound to vfio-pci: {other:?}")),
    }
}

/// Whether this process may do to the machine what an init does: it is the first, and the kernel's
/// command line said what this is. On any other machine that would be a disaster.
pub(crate) fn is_init_of_the_test_machine() -> bool {
    rustix::process::getpid().is_init() && std::env::var_os("MSIX_VM_KERNEL").is_some()
}

/// Whether that init started this process.
pub(crate) fn is_child_of_the_init() -> bool {
    rustix::process::getppid().is_some_and(rustix::process::Pid::is_init)
        && std::env::var_os("MSIX_VM_KERNEL").is_some()
}

/// The next boot, once the console is written.
pub(crate) fn restart() -> ! {
    end(rustix::system::RebootCommand::Restart)
}

/// The end, once the console is written.
pub(crate) fn power_off() -> ! {
    end(rustix::system::RebootCommand::PowerOff)
}

fn end(how: rustix::system::RebootCommand) -> ! {
    // Neither failure can be told any more; whoever waits for the machine has a time limit.
    let _ = rustix::termios::tcdrain(rustix::stdio::stdout());
    let _ = rustix::system::reboot(how);
    loop {
        std::thread::park();
    }
}
