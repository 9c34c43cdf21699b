//! Tests of what the engine knows of workspaces.

use super::*;
use crate::resources::Workspace;
use crate::testing::{World, start, workspace};

#[tokio::test]
async fn a_workspace_that_is_not_known_yet_is_to_be_asked_for_again() {
    let world = World::start().await;
    let id = WorkspaceId::from_random([9; 16]);
    assert_eq!(world.engine.view(&id).unwrap_err().reason, Reason::StoreUnavailable);
    let known = world.engine.view(&workspace()).unwrap().workspace.clone();
    world.engine.directory().put_workspace(Workspace { id: id.clone(), ..known }, start()).await;
    assert_eq!(world.engine.view(&id).unwrap().workspace.id, id);
}
