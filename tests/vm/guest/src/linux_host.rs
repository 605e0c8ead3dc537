//! The init of a machine that runs the toy VMM, with a stock Linux as its guest: the same kernel and the
//! same init ([`linux`](crate::linux)). It shows the guest's console, and counts what the guest says.

use crate::{Tally, boot};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// Whether this is that machine: the kernel's command line said so.
pub(crate) fn is_wanted() -> bool {
    std::env::var_os("MSIX_VM_TOY_VMM").is_some()
}

/// Runs the VMM until it ends.
pub(crate) fn run() -> Result<Tally, String> {
    boot::mount_all()?;
    boot::load_modules()?;
    let mut vmm = Command::new("/vmm")
        .args(["--kernel", "/guest/vmlinuz", "--initramfs", "/guest/initramfs"])
        .args(["--memory", "192", "--cpus", "2", "--boots", &BOOTS.to_string()])
        // Registers of a device that has a driver may be mapped.
        .args([
            "--append",
            "console=ttyS0 reboot=k no_timer_check nokaslr quiet panic=-1 iomem=relaxed",
        ])
        .env_clear()
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("/vmm: {error}"))?;
    let mut tally = Tally::default();
    let (mut boots, mut refused) = (0, None);
    let followed = follow(&mut vmm, |line| {
        println!("{line}");
        tally.ok += usize::from(line.contains("VM-RESULT: ok"));
        tally.failed += usize::from(line.contains("VM-RESULT: FAILED"));
        // The VMM's own counts, among them that of the calls that the kernel refused.
        if line.contains("RouteStats") && !line.contains(" failures: 0,") {
            refused = Some(line.to_owned());
        }
        boots += u32::from(line.contains("VM-GUEST: boot") && line.ends_with("done"));
    });
    tally.run("the toy VMM ends when its guest has booted twice", || {
        followed?;
        match refused {
            Some(line) => Err(line),
            None if boots != BOOTS => Err(format!("{boots} boots of {BOOTS}")),
            None => Ok(()),
        }
    });
    Ok(tally)
}

fn follow(vmm: &mut Child, mut line: impl FnMut(&str)) -> Result<(), String> {
    let console = vmm.stdout.take().ok_or("no console")?;
    for text in BufReader::new(console).split(b'\n') {
        let text = text.map_err(|error| error.to_string())?;
        line(String::from_utf8_lossy(&text).trim_end());
    }
    match vmm.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the VMM ended with {status}")),
        Err(error) => Err(error.to_string()),
    }
}

const BOOTS: u32 = 2;
