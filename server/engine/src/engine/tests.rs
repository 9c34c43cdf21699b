//! Tests of what the engine knows of workspaces.

use super::*;
use crate::ports::Resource;
use crate::resources::Workspace;
use crate::testing::{World, deed, key, start};

#[tokio::test]
async fn a_key_that_is_known_before_its_workspace_is_told_to_come_again() {
    let world = World::start().await;
    let id = WorkspaceId::from_random([9; 16]);
    world.config.insert(&id, Resource::Key(key("secret")), usize::MAX, &deed()).await.unwrap();
    world.engine.directory().refresh(start()).await.unwrap();
    let caller = world.engine.authenticator().by_key("secret", start()).unwrap();
    let refused = world.engine.view(&caller.workspace).unwrap_err();
    assert_eq!(refused.reason, Reason::StoreUnavailable);
    let known = world.engine.view(&crate::testing::workspace()).unwrap().workspace.clone();
    world.engine.directory().put_workspace(Workspace { id: id.clone(), ..known }, start()).await;
    assert_eq!(world.engine.view(&caller.workspace).unwrap().workspace.id, id);
}
