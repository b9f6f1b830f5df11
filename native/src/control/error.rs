//! Why a request failed, as it travels.

use super::protocol::RpcErrorData;
use crate::io::error::SysError;

/// A failed request: JSON-RPC code, stable name, and what to do.
#[derive(Debug)]
pub struct RpcError {
    /// -32700..-32600 for faults of the request's form, -32000 for everything else.
    pub code: i32,
    /// Stable name and sentence.
    pub data: RpcErrorData,
}

impl RpcError {
    /// A request that was understood and could not be carried out.
    pub fn new(name: &str, message: impl Into<String>) -> Self {
        RpcError::coded(-32000, name, message)
    }

    /// A fault of the request's form.
    pub fn coded(code: i32, name: &str, message: impl Into<String>) -> Self {
        RpcError { code, data: RpcErrorData { name: name.to_owned(), message: message.into() } }
    }
}

impl From<SysError> for RpcError {
    fn from(error: SysError) -> Self {
        RpcError::new(error.name(), error.to_string())
    }
}
