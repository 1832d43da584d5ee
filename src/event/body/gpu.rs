//! Events about GPUs; the layout is always the envelope's subject.

use serde::{Deserialize, Serialize};

use crate::model::resource::GpuSeen;

/// `gpu.observed`: how the GPU of a layout is cut, written when it is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuObserved {
    /// What was seen.
    pub gpu: GpuSeen,
}
