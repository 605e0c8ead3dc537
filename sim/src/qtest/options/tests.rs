//! Command lines.

use super::*;

fn read(line: &str) -> Result<Front, OptionError> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    Front::from_arguments(&words, Peer::Spec)
}

fn slots(line: &str) -> Vec<u8> {
    let front = read(&format!("-qtest unix:q -chardev socket,id=c,path=s {line}")).unwrap();
    front.devices.iter().map(|device| device.slot).collect()
}

#[test]
fn what_starts_qemus_own_test_is_taken() {
    let front = read(
        "-qtest unix:/tmp/q.sock -qtest-log /dev/null -chardev socket,path=/tmp/q.qmp,id=char0 \
         -mon chardev=char0,mode=control -display none -chardev socket,id=chr0,path=/tmp/server \
         -device ivshmem-doorbell,chardev=chr0,vectors=2 -object \
         memory-backend-file,id=mb1,size=1M,share=on,mem-path=/dev/shm/x \
         --device ivshmem-plain,memdev=mb1 -accel qtest",
    );
    let front = front.unwrap();
    assert_eq!((front.qtest, front.qmp), ("/tmp/q.sock".into(), vec!["/tmp/q.qmp".into()]));
    assert_eq!((front.machine, front.memory, front.stopped), (MachineKind::Pc, 128 << 20, false));
    let [doorbell, plain] = &front.devices[..] else { panic!("two devices") };
    assert!(matches!(&doorbell.kind, DeviceKind::Doorbell { server, vectors: 2 }
        if server.as_path() == "/tmp/server"));
    assert!(matches!(&plain.kind,
        DeviceKind::Plain { memory: Backing::File { path, size: 0x10_0000 } }
        if path.as_path() == "/dev/shm/x"));
}

#[test]
fn a_slot_is_the_one_that_qemu_gives() {
    let device = "-device ivshmem-doorbell,chardev=c";
    for (machine, expected) in [
        ("-machine pc", [4, 16, 5]),
        ("-machine pc -nodefaults", [2, 16, 3]),
        ("-M q35", [3, 16, 4]),
        ("-machine type=q35,accel=tcg -nodefaults", [1, 16, 2]),
    ] {
        let line = format!("{machine} {device} {device},addr=10 {device}");
        assert_eq!(slots(&line), expected, "{machine}");
    }
    assert_eq!(slots(&format!("{device},addr=0x1f.0,bus=pci.0,id=a")), [31]);
    let many = [device; 32].join(" ");
    let full = read(&format!("-qtest unix:q -nodefaults -chardev socket,id=c,path=s {many}"));
    assert_eq!(
        full.unwrap_err().to_string(),
        "-device: there is no slot that is free on bus `pci.0`"
    );
}

#[test]
fn what_is_not_here_is_refused_by_name() {
    for (line, message) in [
        ("-smp 2", "-smp: this option of QEMU is not supported here"),
        ("disk.img", "disk.img: this option of QEMU is not supported here"),
        ("-m", "-m: its value is missing"),
        ("-m 3G", "-m: size=3G: from 1M to 2G expected"),
        ("-m 64x", "-m: size=64x: a size, such as 64M expected"),
        ("-m 64,slots=2", "-m: `slots` is not supported here"),
        ("-machine microvm", "-machine: type=microvm: pc, q35 or none expected"),
        ("-machine q35,smm=off", "-machine: `smm` is not supported here"),
        ("-accel kvm", "-accel: accel=kvm: tcg or qtest expected"),
        ("-M pc,accel=kvm:tcg", "-M: accel=kvm:tcg: tcg or qtest expected"),
        ("-vga std", "-vga: kind=std: none expected"),
        ("-chardev stdio,id=a", "-chardev: backend=stdio: socket expected"),
        ("-chardev socket,id=a", "-chardev: `path` is missing"),
        ("-chardev socket,id=c,path=x", "-chardev: character device `c` is there already"),
        ("-chardev socket,id=a,path=x,server=on", "-chardev: server=on: off expected"),
        ("-chardev socket,id=a,path=x,server=2", "-chardev: server=2: on or off expected"),
        ("-mon chardev=c", "-mon: `mode` is missing"),
        ("-mon c,mode=readline", "-mon: mode=readline: control expected"),
        ("-qmp stdio", "-qmp: to=stdio: unix:PATH or chardev:ID expected"),
        ("-qmp chardev:x", "-qmp: there is no character device `x`"),
        ("-qmp unix:x,nowait", "-qmp: `nowait` is not supported here"),
        ("-trace apic*", "-trace: enable=apic*: memory_region_ops_write expected"),
        ("-trace memory_region_ops_write", "-trace: `-D FILE` is missing"),
        (
            "-object rng-random,id=r,size=1",
            "-object: qom-type=rng-random: memory-backend-file, \
          memory-backend-memfd or memory-backend-ram expected",
        ),
        ("-object memory-backend-file,id=a,size=1M,mem-path=x", "-object: share=off: on expected"),
        ("-object memory-backend-ram,id=a", "-object: `size` is missing"),
        ("-object memory-backend-ram,id=m,size=1M", "-object: object `m` is there already"),
        ("-device nvme", "-device: driver=nvme: ivshmem-doorbell or ivshmem-plain expected"),
        ("-device ivshmem-plain,memdev=x", "-device: there is no free memory object `x`"),
        (
            "-device ivshmem-plain,memdev=m -device ivshmem-plain,memdev=m",
            "-device: there is no free memory object `m`",
        ),
        ("-device ivshmem-doorbell", "-device: `chardev` is missing"),
        (
            "-device ivshmem-doorbell,chardev=c,vectors=0",
            "-device: vectors=0: a number from 1 to 2048 expected",
        ),
        (
            "-device ivshmem-doorbell,chardev=c,master=1",
            "-device: master=1: on, off or auto expected",
        ),
        (
            "-device ivshmem-doorbell,chardev=c,addr=4.1",
            "-device: addr=4.1: a slot from 1 to 1f expected",
        ),
        (
            "-device ivshmem-doorbell,chardev=c,addr=20",
            "-device: addr=20: a slot from 1 to 1f expected",
        ),
        (
            "-device ivshmem-doorbell,chardev=c,addr=4 -device ivshmem-plain,memdev=m,addr=4",
            "-device: device in slot `4` is there already",
        ),
        ("-device ivshmem-plain,memdev=m,bus=pcie.0", "-device: there is no bus `pcie.0`"),
        ("-M none -device ivshmem-plain,memdev=m", "-device: there is no bus on machine `none`"),
        ("-device ivshmem-plain,memdev=m,romfile=x", "-device: `romfile` is not supported here"),
    ] {
        let given = "-qtest chardev:c -chardev socket,id=c,path=s \
                     -object memory-backend-ram,id=m,size=1M";
        let refused = read(&format!("{given} {line}")).unwrap_err();
        assert_eq!(refused.to_string(), message, "{line}");
    }
    assert_eq!(read("-S").unwrap_err(), OptionError::NoQtest);
}
