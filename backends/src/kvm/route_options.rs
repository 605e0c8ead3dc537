//! What a VMM chooses for a VM's routes.

use super::deferral::Deferral;
use super::gsis::GsiRange;
use super::route_table::Irqchip;
use std::time::Duration;

/// The options of a VM's [`Routes`](super::Routes).
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RouteOptions {
    /// The interrupt controllers in the kernel.
    pub irqchip: Irqchip,
    /// The number of routes, and of GSIs, that the VM may have: `KvmFacts::routes`, at most 4096. With 0
    /// nothing is routed: userspace reads every eventfd when it is written, whether masked or not, and
    /// sends every message.
    pub limit: u32,
    /// The GSIs that vectors are given. Those outside are for [`Routes::keep`](super::Routes::keep), and for sources with
    /// fixed GSIs ([`MessageGroupSetup::first_gsi`](super::MessageGroupSetup::first_gsi)).
    pub gsis: GsiRange,
    /// How long changes may wait to be committed together.
    pub deferral: Deferral,
    /// How long what was refused waits until it is tried again, whatever [`deferral`](Self::deferral) says:
    /// a message while the guest has its ITS off (K15), an eventfd that KVM does not let go of, one that epoll
    /// does not take; and how long the loop rests when messages to memory cause each other without an end. The
    /// guest can bring these about, and would keep the loop busy. Less than 1 ms counts as that.
    pub retry: Duration,
}

impl RouteOptions {
    pub(super) const LEAST_RETRY: Duration = Duration::from_millis(1);

    /// Makes options for up to 4096 routes, with [`Deferral::default`], 10 ms until what was refused is tried
    /// again, and GSIs for vectors behind those of pins: from 24 on, or behind the SPIs of [`Irqchip::Gic`].
    #[must_use]
    pub fn new(irqchip: Irqchip) -> Self {
        let gsis = GsiRange { first: irqchip.pins(), ..GsiRange::default() };
        Self {
            irqchip,
            limit: 4096,
            gsis,
            deferral: Deferral::default(),
            retry: Duration::from_millis(10),
        }
    }
}
