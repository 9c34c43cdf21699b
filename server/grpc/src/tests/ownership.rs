//! Who may settle a reservation, whatever became of its record or of its key.

use rateguard_core::ids::KeyId;
use rateguard_core::limits::RESERVATION_TTL_MS_MAX;
use rateguard_engine::ports::Principal;
use rateguard_engine::resources::{Key, Scope};
use rateguard_proto::internal_v1 as internal;
use rateguard_proto::internal_v1::gateway_service_client::GatewayServiceClient;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use rateguard_proto::v1::key_service_client::KeyServiceClient;
use rateguard_proto::v1::quota_service_client::QuotaServiceClient;
use rateguard_proto::v1::usage_service_client::UsageServiceClient;
use tonic::Code;

use super::managed::usd;
use super::world::{Transport, World, plain_key, reason};

fn reserve() -> v1::CheckQuotaRequest {
    v1::CheckQuotaRequest {
        mode: v1::CheckMode::Reserve.into(),
        subject: "alice".to_owned(),
        estimate: Some(v1::Estimate { cost: usd(700), ..v1::Estimate::default() }),
        ..v1::CheckQuotaRequest::default()
    }
}

async fn report(transport: Transport, event_id: &str, reservation_id: &str) -> v1::RecordResult {
    let record = v1::UsageRecord {
        event_id: event_id.to_owned(),
        reservation_id: reservation_id.to_owned(),
        subject: "alice".to_owned(),
        cost: usd(500),
        ..v1::UsageRecord::default()
    };
    let request = v1::ReportUsageRequest { records: vec![record] };
    let answer = UsageServiceClient::new(transport).report_usage(request).await.unwrap();
    answer.into_inner().results.remove(0)
}

async fn app_and_its_id(world: &World) -> (String, String) {
    let app = world.add_key(Key { allow_subject_header: true, ..plain_key(&[Scope::Gateway]) }).await;
    let mut keys = KeyServiceClient::new(world.transport());
    let listed = keys.list_keys(v1::ListKeysRequest::default()).await.unwrap().into_inner().keys;
    let of_app = listed.into_iter().find(|key| app.starts_with(&key.prefix)).expect("the app's key");
    (app, of_app.id)
}

#[tokio::test]
async fn a_call_is_settled_also_when_its_key_was_deleted_meanwhile() {
    let world = World::new().await;
    let (app, id) = app_and_its_id(&world).await;
    let mut gateway = QuotaServiceClient::new(world.gateway_for(&app));
    let [first, second, third] = [
        gateway.check_quota(reserve()).await.unwrap().into_inner().reservation_id,
        gateway.check_quota(reserve()).await.unwrap().into_inner().reservation_id,
        gateway.check_quota(reserve()).await.unwrap().into_inner().reservation_id,
    ];
    let delete = v1::DeleteKeyRequest { id, etag: String::new() };
    KeyServiceClient::new(world.transport()).delete_key(delete).await.unwrap();

    let refused = gateway.check_quota(reserve()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused)), (Code::Unauthenticated, R::CredentialUnknown));
    let record = v1::UsageRecord { event_id: "first".to_owned(), cost: usd(500), ..Default::default() };
    let price = internal::PriceUsageRequest { record: Some(record) };
    let priced = GatewayServiceClient::new(world.gateway_for(&app)).price_usage(price).await.unwrap();
    assert_eq!(priced.into_inner().cost, usd(500));
    let settled = report(world.gateway_for(&app), "first", &first).await;
    assert_eq!((settled.status(), settled.flags), (v1::RecordStatus::Accepted, Vec::new()));
    let release = v1::ReleaseReservationRequest { reservation_id: second };
    let released = gateway.release_reservation(release).await.unwrap().into_inner();
    assert_eq!(released.state(), v1::ReservationState::Released);

    // No reservation lives longer, and so nobody needs the key any more.
    world.clock.advance_ms(RESERVATION_TTL_MS_MAX);
    let release = v1::ReleaseReservationRequest { reservation_id: third };
    let late = gateway.release_reservation(release).await.unwrap_err();
    assert_eq!(reason(&late), R::CredentialUnknown);
}

#[tokio::test]
async fn a_reservation_whose_record_is_lost_is_settled_by_its_holder_alone() {
    let world = World::new().await;
    let (app, id) = app_and_its_id(&world).await;
    let holder = Principal { key: KeyId::parse("id", &id).unwrap(), by_gateway: true };
    let lost = holder.reservation_id([9; 12], None);
    let refused = report(world.transport(), "theirs", lost.as_str()).await;
    assert_eq!((refused.status(), refused.reason()), (v1::RecordStatus::Rejected, R::ReservationNotOwned));
    assert_eq!(refused.field, "reservation_id");
    let settled = report(world.gateway_for(&app), "own", lost.as_str()).await;
    assert_eq!(settled.status(), v1::RecordStatus::Accepted);
    assert_eq!(settled.flags().collect::<Vec<_>>(), [v1::UsageFlag::ReservationUnknown]);
}
