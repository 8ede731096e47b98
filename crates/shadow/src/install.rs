//! Examining a received snapshot before anything is changed for it.

use std::path::Path;

use virtflow_state::State;

use crate::error::StoreError;
use crate::files::sync_file;
use crate::load::{FileContent, examine};

/// Ours, not newer, sound, its digest right, of a cluster version up to `supports`, and of the life of the cluster
/// that is here.
pub(crate) async fn examine_received(
    received: &Path,
    here: &State,
    supports: u32,
) -> Result<FileContent, StoreError> {
    let content = examine(received, supports).await?;
    let what = || format!("the snapshot at {}", content.meta.index);
    if here.cluster_id().is_some() && content.meta.cluster_id != here.cluster_id() {
        return Err(StoreError::refused(
            what(),
            format!(
                "it is of the cluster {:?}, this store of {:?}",
                content.meta.cluster_id,
                here.cluster_id()
            ),
        ));
    }
    if here.incarnation().is_some() && content.meta.incarnation != here.incarnation() {
        return Err(StoreError::refused(
            what(),
            format!(
                "it is of the store's life {:?}, this store of {:?}",
                content.meta.incarnation,
                here.incarnation()
            ),
        ));
    }
    sync_file(received).await?;
    Ok(content)
}
