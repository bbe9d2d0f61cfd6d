//! Transparent huge pages (Documentation/admin-guide/mm/transhuge.rst).

use super::simple::{Form, Simple};

const ELSEWISE: &str = "run a kernel with CONFIG_TRANSPARENT_HUGEPAGE, as root";

/// Which memory gets them.
pub(super) const ENABLED: Simple = Simple {
    what: "transparent huge pages",
    file: "sys/kernel/mm/transparent_hugepage/enabled",
    form: Form::Same,
    elsewise: ELSEWISE,
};

/// What a fault does for want of one.
pub(super) const DEFRAG: Simple = Simple {
    what: "defragmentation for transparent huge pages",
    file: "sys/kernel/mm/transparent_hugepage/defrag",
    form: Form::Same,
    elsewise: ELSEWISE,
};
