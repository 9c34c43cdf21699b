//! People in browsers: over grpc-web, with the refresh token in a cookie.

use axum::body::Body;
use http::{Request, Response};
use http_body_util::BodyExt;
use prost::Message;
use rateguard_proto::v1;
use rateguard_proto::v1::ErrorReason as R;
use tonic::Status;
use tower::ServiceExt;

use super::persons::{PASSWORD, login, registration, secret};
use super::world::{ORIGIN, World, reason};

/// What a browser remembers between calls.
struct Page<'w> {
    world: &'w World,
    origin: &'static str,
    asks: bool,
    cookie: Option<String>,
    /// The cookie as it was last set, whole.
    set_cookie: Option<String>,
}

impl<'w> Page<'w> {
    fn of(world: &'w World, origin: &'static str) -> Self {
        Self { world, origin, asks: true, cookie: None, set_cookie: None }
    }

    /// Calls a method over grpc-web, as a page of the origin does.
    async fn call<Q: Message, A: Message + Default>(
        &mut self,
        method: &str,
        request: &Q,
    ) -> Result<A, Status> {
        let response = self.send(method, request).await;
        if let Some(set) = response.headers().get("set-cookie") {
            let set = set.to_str().unwrap().to_owned();
            self.cookie = set.split(';').next().map(ToOwned::to_owned);
            self.set_cookie = Some(set);
        }
        if let Some(status) = Status::from_header_map(response.headers()) {
            return Err(status);
        }
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let length = usize::try_from(u32::from_be_bytes(body[1..5].try_into().unwrap())).unwrap();
        Ok(A::decode(&body[5..5 + length]).unwrap())
    }

    async fn send<Q: Message>(&self, method: &str, request: &Q) -> Response<Body> {
        let message = request.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let mut builder = Request::post(format!("/rateguard.v1.AuthService/{method}"))
            .header("host", "api.example.com")
            .header("origin", self.origin)
            .header("content-type", "application/grpc-web+proto");
        if self.asks {
            builder = builder.header("x-rateguard-csrf", "1");
        }
        if let Some(cookie) = &self.cookie {
            builder = builder.header("cookie", cookie);
        }
        let body = Body::from([&[0][..], &length, &message].concat());
        self.world.public.clone().oneshot(builder.body(body).unwrap()).await.unwrap()
    }

    async fn login(&mut self) -> Result<v1::LoginResponse, Status> {
        self.call("Login", &login("ada@example.com", PASSWORD)).await
    }

    async fn refresh(&mut self) -> Result<v1::RefreshTokenResponse, Status> {
        self.call("RefreshToken", &v1::RefreshTokenRequest::default()).await
    }
}

#[tokio::test]
async fn a_browser_registers_refreshes_and_an_old_cookie_ends_the_session() {
    let world = World::new().await;
    let mut page = Page::of(&world, ORIGIN);
    let registered: v1::RegisterResponse =
        page.call("Register", &registration("ada@example.com")).await.unwrap();
    // The page's scripts never see the refresh token.
    assert_eq!(registered.grant.unwrap().refresh_token, None);
    let first = page.cookie.clone();
    let refreshed = page.refresh().await.unwrap().grant.unwrap();
    assert_eq!(refreshed.refresh_token, None);
    assert_ne!(page.cookie, first);
    let access = refreshed.access_token.unwrap().value;
    world.me(&access).await.unwrap();
    let present = std::mem::replace(&mut page.cookie, first);
    assert_eq!(reason(&page.refresh().await.unwrap_err()), R::SessionEnded);
    page.cookie = present;
    assert_eq!(reason(&page.refresh().await.unwrap_err()), R::SessionEnded);
    assert_eq!(reason(&world.me(&access).await.unwrap_err()), R::SessionEnded);
}

#[tokio::test]
async fn the_cookie_is_out_of_reach_of_scripts_and_other_sites_and_goes_to_one_method() {
    let world = World::new().await;
    world.someone("ada").await;
    let mut page = Page::of(&world, ORIGIN);
    page.login().await.unwrap();
    let set = page.set_cookie.clone().unwrap();
    let mut flags: Vec<&str> = set.split("; ").skip(1).collect();
    flags.sort_unstable();
    let path = "Path=/rateguard.v1.AuthService/RefreshToken";
    assert_eq!(flags, ["HttpOnly", "Max-Age=604800", path, "SameSite=Strict", "Secure"]);
    assert!(set.starts_with("rateguard_refresh=rgr_"), "{set}");
    // No other method takes it, were it sent there.
    let me: Result<v1::GetMeResponse, Status> = page.call("GetMe", &v1::GetMeRequest {}).await;
    assert_eq!(reason(&me.unwrap_err()), R::CredentialMissing);
}

#[tokio::test]
async fn a_page_of_another_origin_and_a_call_without_the_header_cannot_use_the_cookie() {
    let world = World::new().await;
    world.someone("ada").await;
    let mut page = Page::of(&world, ORIGIN);
    page.login().await.unwrap();
    let present = page.cookie.clone();
    let mut evil = Page { cookie: present.clone(), ..Page::of(&world, "https://evil.example.com") };
    assert_eq!(reason(&evil.refresh().await.unwrap_err()), R::OriginRefused);
    assert_eq!(reason(&evil.login().await.unwrap_err()), R::OriginRefused);
    assert_eq!(evil.set_cookie, None);
    let mut plain = Page { asks: false, cookie: present, ..Page::of(&world, ORIGIN) };
    assert_eq!(reason(&plain.refresh().await.unwrap_err()), R::OriginRefused);
    // Nothing of this has spent the token.
    page.refresh().await.unwrap();
    let mut own = Page { cookie: page.cookie.clone(), ..Page::of(&world, "https://api.example.com") };
    own.refresh().await.unwrap();
}

#[tokio::test]
async fn without_the_header_the_token_comes_in_the_body_and_no_cookie_is_set() {
    let world = World::new().await;
    world.someone("ada").await;
    let mut page = Page { asks: false, ..Page::of(&world, ORIGIN) };
    let token = page.login().await.unwrap().grant.unwrap().refresh_token.unwrap().value;
    assert_eq!(page.set_cookie, None);
    let request = v1::RefreshTokenRequest { refresh_token: secret(&token) };
    let refreshed: v1::RefreshTokenResponse = page.call("RefreshToken", &request).await.unwrap();
    assert!(refreshed.grant.unwrap().refresh_token.is_some());
    assert_eq!(page.set_cookie, None);
    assert_eq!(reason(&page.refresh().await.unwrap_err()), R::FieldMissing);
}

#[tokio::test]
async fn a_refused_origin_spends_no_token_of_the_body_either() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    let mut evil = Page::of(&world, "https://evil.example.com");
    let request = v1::RefreshTokenRequest { refresh_token: secret(&ada.refresh) };
    let refused: Result<v1::RefreshTokenResponse, Status> = evil.call("RefreshToken", &request).await;
    assert_eq!(reason(&refused.unwrap_err()), R::OriginRefused);
    world.refreshed(&ada.refresh).await.unwrap();
}

#[tokio::test]
async fn logging_out_takes_the_cookie_back() {
    let world = World::new().await;
    let ada = world.someone("ada").await;
    let answer = world.auth(&ada).logout(v1::LogoutRequest {}).await.unwrap();
    let set = answer.metadata().get("set-cookie").unwrap().to_str().unwrap();
    assert!(set.starts_with("rateguard_refresh=;") && set.contains("Max-Age=0"), "{set}");
}

#[tokio::test]
async fn a_browser_may_send_the_cookie_and_the_header_from_a_configured_origin() {
    let world = World::new().await;
    let preflight = Request::builder()
        .method(http::Method::OPTIONS)
        .uri("/rateguard.v1.AuthService/RefreshToken")
        .header("origin", ORIGIN)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type,x-grpc-web,x-rateguard-csrf")
        .body(Body::empty())
        .unwrap();
    let answer = world.public.clone().oneshot(preflight).await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-credentials"], "true");
    assert_eq!(answer.headers()["access-control-allow-origin"], ORIGIN);
    let allowed = answer.headers()["access-control-allow-headers"].to_str().unwrap();
    assert!(allowed.contains("x-rateguard-csrf"), "{allowed}");
}
