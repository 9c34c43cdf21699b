//! The contract of RateGuard as Rust: messages, clients and servers generated from the `.proto` files
//! of this folder.
//!
//! What a message, a field or a method means stands in the protos, whose comments become the
//! documentation here. Conversions to and from the domain's types live with whoever needs them.
//!
//! Maps are `BTreeMap`s, so that the same message is always the same bytes; well-known types come from
//! [`prost_types`].

pub mod access;
pub mod codec;
pub mod money;
mod reason;
mod secret;

/// The public package `rateguard.v1`.
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/public/rateguard.v1.rs"));
}

/// The package `rateguard.internal.v1`, spoken between gateways and the server only.
pub mod internal_v1 {
    include!(concat!(env!("OUT_DIR"), "/internal/rateguard.internal.v1.rs"));
}

/// The packages of Envoy that are spoken, nested as Envoy names them.
pub mod envoy {
    /// `envoy.config`.
    pub mod config {
        /// `envoy.config.core`.
        pub mod core {
            /// The package `envoy.config.core.v3`.
            pub mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy/envoy.config.core.v3.rs"));
            }
        }
    }
    /// `envoy.extensions`.
    pub mod extensions {
        /// `envoy.extensions.common`.
        pub mod common {
            /// `envoy.extensions.common.ratelimit`.
            pub mod ratelimit {
                /// The package `envoy.extensions.common.ratelimit.v3`.
                pub mod v3 {
                    include!(concat!(env!("OUT_DIR"), "/envoy/envoy.extensions.common.ratelimit.v3.rs"));
                }
            }
        }
    }
    /// `envoy.service`.
    pub mod service {
        /// `envoy.service.ratelimit`.
        pub mod ratelimit {
            /// The package `envoy.service.ratelimit.v3`.
            pub mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy/envoy.service.ratelimit.v3.rs"));
            }
        }
    }
    /// `envoy.type`.
    pub mod r#type {
        /// The package `envoy.type.v3`.
        pub mod v3 {
            include!(concat!(env!("OUT_DIR"), "/envoy/envoy.r#type.v3.rs"));
        }
    }
}

/// The public package and its imports as an encoded `google.protobuf.FileDescriptorSet` with comments;
/// what reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/public/descriptor.bin"));

/// The packages of Envoy that are spoken, and their imports, in the same form.
pub const ENVOY_FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/envoy/descriptor.bin"));

/// The internal package and its imports as an encoded `google.protobuf.FileDescriptorSet` with
/// comments. Never given to reflection.
pub const INTERNAL_FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/internal/descriptor.bin"));

/// Domain of every `google.rpc.ErrorInfo` that the services send.
pub const ERROR_DOMAIN: &str = "rateguard";

#[cfg(test)]
mod tests;
