//! The init of a machine that runs the toy VMM, with a stock Linux as its guest: the same kernel and the
//! same init ([`linux`](crate::linux)). It shows the guest's console, and counts what the guest says.

use crate::process::stacks;
use crate::{Tally, boot};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

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
    let (judged, results) = channel();
    end_when_stuck(vmm.id(), results);
    let mut tally = Tally::default();
    let (mut boots, mut refused) = (0, None);
    let followed = follow(&mut vmm, |line| {
        println!("{line}");
        if line.contains("VM-RESULT: ") {
            // Nobody hears it once the VMM was stuck.
            let _ = judged.send(());
        }
        tally.ok += usize::from(line.contains("VM-RESULT: ok"));
        tally.failed += usize::from(line.contains("VM-RESULT: FAILED"));
        // The VMM's own counts, among them that of the calls that the kernel refused.
        if line.contains("RouteStats") && !line.contains(" failures: 0,") {
            refused = Some(line.to_owned());
        }
        boots += u32::from(line.contains("VM-GUEST: boot") && line.ends_with("done"));
    });
    drop(judged);
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

/// Ends a VMM whose guest says of no test how it went for [`LIMIT`], and tells where its threads are. The host
/// takes a processor for astray that is always in KVM_RUN and whose kernel speaks of a lockup.
fn end_when_stuck(vmm: u32, results: Receiver<()>) {
    thread::spawn(move || {
        loop {
            match results.recv_timeout(LIMIT) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return, // the VMM has ended
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
        let looks = [0; 5].map(|_| {
            thread::sleep(Duration::from_millis(200));
            stacks(vmm)
        });
        println!("the VMM's threads:\n{}", looks.concat());
        // Two processors, a call each.
        if looks.iter().all(|look| look.matches("kvm_vcpu_ioctl+").count() == 2) {
            println!("VM-STUCK: every processor of the guest is in KVM_RUN");
        }
        // One that ends meanwhile needs no end.
        let _ = Pid::from_raw(vmm.cast_signed()).map(|vmm| kill_process(vmm, Signal::KILL));
    });
}

/// Longest time between two tests of the guest, a boot included: several times what a busy machine needs.
const LIMIT: Duration = Duration::from_secs(90);
const BOOTS: u32 = 2;
