public import AccrueCore
import Foundation
import GRDB

/// Runs database work and turns its errors into the one error type.
func translating<Value>(_ operation: String, _ work: () throws -> Value) throws(AccrueError) -> Value {
    do { return try work() } catch let error as AccrueError { throw error } catch let error as DatabaseError {
        let code: AccrueError.Code =
            switch error.resultCode {
            case .SQLITE_CONSTRAINT: .conflict
            case .SQLITE_CORRUPT, .SQLITE_NOTADB: .corrupt
            default: .unavailable
            }
        let hint =
            switch code {
            case .corrupt: "restore the home directory from a backup"
            case .conflict: "ask for the present state and try again"
            default: "check free space and permissions of the home directory"
            }
        throw AccrueError(code, while: operation, "SQLite says: \(error.message ?? "error \(error.resultCode.rawValue)")", hint: hint)
    } catch { throw AccrueError(.unavailable, while: operation, "\(error)") }
}

/// A value from its JSON text in a column.
func decoding<Value: Decodable>(_ text: String) throws(AccrueError) -> Value {
    do { return try JSONValue(parsing: Data(text.utf8)).decode(while: "reading a stored value") } catch {
        throw AccrueError(.corrupt, while: "reading a stored value", error.problem, hint: "restore the home directory from a backup")
    }
}

extension Store {
    /// The SQLite that this program runs with, as "3.40.1".
    public static func sqliteVersion() throws(AccrueError) -> String {
        try translating("asking SQLite for its version") { try DatabaseQueue().read { try String.fetchOne($0, sql: "SELECT sqlite_version()") } ?? "unknown" }
    }
}
