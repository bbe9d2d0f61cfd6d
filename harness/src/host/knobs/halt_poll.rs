//! How long KVM polls for a halted vCPU, for all guests (Documentation/virt/kvm/halt-polling.rst).

use super::simple::{Form, Simple};

const ELSEWISE: &str = "write halt-poll in [guest], or give the parameter at boot or when the module kvm is loaded (such as kvm.halt_poll_ns=0)";

/// The longest time.
pub(super) const CEILING: Simple = Simple {
    what: "halt polling",
    file: "sys/module/kvm/parameters/halt_poll_ns",
    form: Form::Time(1),
    elsewise: ELSEWISE,
};

/// The factor by which it grows.
pub(super) const GROW: Simple = Simple {
    what: "growing halt polling",
    file: "sys/module/kvm/parameters/halt_poll_ns_grow",
    form: Form::Same,
    elsewise: ELSEWISE,
};

/// What it grows from.
pub(super) const GROW_START: Simple = Simple {
    what: "growing halt polling",
    file: "sys/module/kvm/parameters/halt_poll_ns_grow_start",
    form: Form::Time(1),
    elsewise: ELSEWISE,
};

/// The divisor by which it shrinks.
pub(super) const SHRINK: Simple = Simple {
    what: "shrinking halt polling",
    file: "sys/module/kvm/parameters/halt_poll_ns_shrink",
    form: Form::Same,
    elsewise: ELSEWISE,
};
