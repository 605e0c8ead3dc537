//! Counts of a device vector's events.

/// Counts of the events of one device vector since its function was made, for a VMM to export. A
/// snapshot does not have them, and a reset leaves them alone.
///
/// # What is not counted
/// Messages that KVM sends: while it owns the vector's eventfd it reads the eventfd and sends by itself,
/// and nobody is told. Of these events [`given`](Self::given) has those that
/// [`notify`](super::Function::notify) wrote; KVM may send one message for several. It has none of those
/// that others write: a vhost worker, another process, or a real device. The trace events of the kernel
/// (`kvm:kvm_msi_set_irq`) show them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VectorCounters {
    /// Events that `notify` wrote to the eventfd while KVM owned it.
    pub given: u64,
    /// Events that the function took itself: by `notify`, and those that it read from an eventfd.
    pub taken: u64,
    /// Those of them that became pending, or were one with an event that was.
    pub pending: u64,
    /// Those of them that were dropped, most often because the device had not claimed the vector.
    pub dropped: u64,
    /// Messages that userspace sent as this vector, by KVM_SIGNAL_MSI or as a write of memory. Under a
    /// small allocation of MSI, events of other device vectors are sent as this one.
    pub sent: u64,
    /// Messages that the kernel refused; they are sent later.
    pub refused: u64,
    /// How often the vector went from KVM to userspace, because a call failed.
    pub fallbacks: u64,
}
