//! Recordings of the kernel's trace events, of a VMM that does all right and of some that do not. They
//! go to the console: whoever started the machine judges them.

use super::{Test, text};
use crate::nested::Nested;
use crate::tracing::Recording;
use crate::vmm::{BAR, CAPABILITY, DEVICE, PBA, SLEEP, VECTORS, Vmm, Wrong};
use crate::world::World;
use kvm_bindings::{
    KVM_CAP_SPLIT_IRQCHIP, KVM_IRQ_ROUTING_MSI, KvmIrqRouting, kvm_enable_cap,
    kvm_irq_routing_entry, kvm_irq_routing_entry__bindgen_ty_1, kvm_irq_routing_msi,
};
use std::time::Duration;

pub(super) const TESTS: &[(&str, Test)] = &[
    ("a recording of a VMM that does all right", |world| judged(world, "right", Wrong::Nothing)),
    ("a recording of masks that do not reach KVM", |world| judged(world, "mask", Wrong::Mask)),
    ("a recording of function masks that do not reach KVM", |world| {
        judged(world, "function-mask", Wrong::FunctionMask)
    }),
    ("a recording of an MSI-X that stays enabled", |world| {
        judged(world, "disable", Wrong::Disable)
    }),
    ("a recording of routes that stay", |world| judged(world, "reroute", Wrong::Reroute)),
    ("a recording of routes of which half stays", |world| {
        judged(world, "half-reroute", Wrong::HalfReroute)
    }),
    ("a recording of pending events that are dropped", |world| {
        judged(world, "pending", Wrong::Pending)
    }),
    ("a recording of routes that KVM looks at", looked_at),
];

fn judged(world: &mut World, name: &str, wrong: Wrong) -> Result<(), String> {
    let kvm = world.kvm.as_ref().map_err(Clone::clone)?;
    let mut nested = Nested::of_code(kvm, &program())?;
    let mut vmm = Vmm::new(&nested.vm, wrong)?;
    let recording = Recording::begin()?;
    let (ended, end) = std::sync::mpsc::channel();
    nested.start_at_exits(move |exit| {
        if let kvm_ioctls::VcpuExit::IoOut(END, _) = exit {
            return ended.send(()).map_err(text);
        }
        vmm.exit(exit)
    })?;
    end.recv_timeout(Duration::from_secs(30)).map_err(|error| format!("the guest: {error}"))?;
    print(name, &recording.end()?);
    Ok(())
}

/// With the I/O APIC in userspace, KVM looks at the routes of its pins when they are committed.
fn looked_at(world: &mut World) -> Result<(), String> {
    let kvm = world.kvm.as_ref().map_err(Clone::clone)?;
    let vm = kvm.create_vm().map_err(text)?;
    let mut split = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..Default::default() };
    split.args[0] = 24;
    vm.enable_cap(&split).map_err(text)?;
    let mut cpu = vm.create_vcpu(0).map_err(text)?;
    let recording = Recording::begin()?;
    let route = |gsi| kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        u: kvm_irq_routing_entry__bindgen_ty_1 {
            msi: kvm_irq_routing_msi {
                address_lo: 0xfee0_0000,
                data: 0x40 + gsi,
                ..Default::default()
            },
        },
        ..Default::default()
    };
    // Two pins of the I/O APIC, and two that are none.
    let routes = [3, 4, 24, 25].map(route);
    let routes = KvmIrqRouting::from_entries(&routes).map_err(text)?;
    vm.set_gsi_routing(&routes).map_err(text)?;
    // Without memory the first instruction is an exit, or an error: either is after the look.
    println!("without memory: {:?}", cpu.run().map(|exit| format!("{exit:?}")));
    print("looked-at", &recording.end()?);
    Ok(())
}

fn print(name: &str, recording: &str) {
    println!("VM-RECORDING: {name}");
    for line in recording.lines() {
        println!("R|{line}");
    }
}

/// Where the guest says that it has done everything.
const END: u16 = 0xf7;

/// What the guest does.
fn program() -> Vec<u8> {
    let mut code = Code::default();
    code.finds_the_function();
    code.control(0xc0);
    for vector in 0..2 {
        code.entry(vector, 0xfee0_0000, 0x40 + vector);
        code.mask(vector, false);
    }
    code.control(0x80);
    code.raise(0);
    code.raise(1);
    // Each of the next: a mask, an event, its pending bit, and the unmask.
    code.mask(0, true);
    code.read(BAR + 12);
    code.raise(0);
    code.read(BAR + PBA);
    code.read(BAR + PBA);
    code.mask(0, false);
    code.raise(1);
    code.control(0xc0);
    code.read_control();
    code.raise(1);
    code.read(BAR + PBA);
    code.control(0x80);
    // Another message: of another interrupt, and for a logical destination.
    code.mask(0, true);
    code.read(BAR + 12);
    code.entry(0, 0xfee0_1004, 0x42);
    code.mask(0, false);
    code.read(BAR + 12);
    code.raise(0);
    code.control(0);
    code.read_control();
    code.raise(1);
    code.control(0x80);
    code.read_control();
    code.raise(1);
    // What is due has time to come.
    code.out(DEVICE, 1, SLEEP.into());
    for _ in 0..70 {
        code.input(0xcfc, 4);
    }
    code.out(END, 1, 0);
    code.0.extend([0xfb, 0xf4, 0xeb, 0xfc]); // sti; hlt; jmp back
    code.0
}

#[derive(Default)]
struct Code(Vec<u8>);

impl Code {
    fn out(&mut self, port: u16, size: u8, value: u32) {
        self.0.extend([0x66, 0xb8]); // mov eax, value
        self.0.extend(value.to_le_bytes());
        self.port(port);
        self.0.extend(match size {
            1 => &[0xee][..],
            2 => &[0xef],
            _ => &[0x66, 0xef],
        });
    }

    fn input(&mut self, port: u16, size: u8) {
        self.port(port);
        self.0.extend(match size {
            1 => &[0xec][..],
            2 => &[0xed],
            _ => &[0x66, 0xed],
        });
    }

    fn port(&mut self, port: u16) {
        self.0.push(0xba); // mov dx, port
        self.0.extend(port.to_le_bytes());
    }

    fn write(&mut self, address: u32, value: u32) {
        self.0.extend([0x66, 0xbf]); // mov edi, address
        self.0.extend(address.to_le_bytes());
        self.0.extend([0x67, 0x64, 0x66, 0xc7, 0x07]); // mov dword fs:[edi], value
        self.0.extend(value.to_le_bytes());
    }

    fn read(&mut self, address: u32) {
        self.0.extend([0x66, 0xbf]); // mov edi, address
        self.0.extend(address.to_le_bytes());
        self.0.extend([0x67, 0x64, 0x66, 0x8b, 0x07]); // mov eax, fs:[edi]
    }

    /// Names a register of 00:01.0.
    fn register(&mut self, at: u8) -> u16 {
        self.out(0xcf8, 4, 0x8000_0800 | u32::from(at & 0xfc));
        0xcfc + u16::from(at & 3)
    }

    fn read_config(&mut self, at: u8, size: u8) {
        let port = self.register(at);
        self.input(port, size);
    }

    fn write_config(&mut self, at: u8, size: u8, value: u32) {
        let port = self.register(at);
        self.out(port, size, value);
    }

    /// As a kernel does when it boots.
    fn finds_the_function(&mut self) {
        self.read_config(0, 4);
        self.read_config(0x34, 1);
        self.read_config(CAPABILITY, 2);
        for at in [2, 4, 8] {
            self.read_config(CAPABILITY + at, if at == 2 { 2 } else { 4 });
        }
        self.read_config(0x10, 4);
        self.write_config(0x10, 4, u32::MAX);
        self.read_config(0x10, 4);
        self.write_config(0x10, 4, 0);
        self.write_config(0x10, 4, BAR);
        self.write_config(4, 2, 6);
    }

    /// Writes the upper half of Message Control.
    fn control(&mut self, high: u8) {
        let size = u32::from(VECTORS - 1);
        self.write_config(CAPABILITY + 2, 2, u32::from(high) << 8 | size);
    }

    fn read_control(&mut self) {
        self.read_config(CAPABILITY + 2, 2);
    }

    fn entry(&mut self, vector: u32, address: u32, data: u32) {
        let entry = BAR + 16 * vector;
        self.write(entry, address);
        self.write(entry + 4, 0);
        self.write(entry + 8, data);
    }

    fn mask(&mut self, vector: u32, masked: bool) {
        self.write(BAR + 16 * vector + 12, masked.into());
    }

    fn raise(&mut self, vector: u8) {
        self.out(DEVICE, 1, vector.into());
    }
}
