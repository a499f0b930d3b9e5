import AccrueCore
@testable import AccrueHTTP
import Foundation
import Testing

@Suite("Where HTTP is served, and to whom")
struct HTTPSettingsTests {
    @Test("addresses of this machine need no token", arguments: [("127.0.0.1:7780", "127.0.0.1", 7_780), ("localhost:*", "localhost", 0), ("[::1]:80", "::1", 80)])
    func local(address: String, host: String, port: Int) throws {
        let settings = try HTTPSettings(address: address, tokenFile: nil)
        #expect(settings.host == host && settings.port == port && settings.token == nil)
    }

    @Test("what is no address is refused with its text", arguments: ["7780", ":7780", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "http://127.0.0.1:80"])
    func malformed(address: String) {
        #expect { try HTTPSettings(address: address, tokenFile: nil) } throws: {
            let error = $0 as? AccrueError
            return error?.code == .invalidInput && error?.problem.contains("'\(address)'") == true
        }
    }

    @Test("other addresses need a token, and the refusal says how to make one", arguments: ["0.0.0.0:80", "10.0.0.1:80", "[::]:80", "example.org:80", "127.evil.org:80"])
    func open(address: String) {
        #expect { try HTTPSettings(address: address, tokenFile: nil) } throws: {
            let error = $0 as? AccrueError
            return error?.code == .invalidInput && error?.hint.contains("--http-token-file") == true
        }
    }

    @Test("a token is the first line of a file that only its owner may read")
    func token() throws {
        let path = "/tmp/accrue-token-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: path) }
        try SecretFile.write(Data("0123456789abcdef\nmore\n".utf8), to: path, replacing: false, while: "testing")
        #expect(try HTTPSettings(address: "0.0.0.0:80", tokenFile: path).token == "0123456789abcdef")
        try SecretFile.write(Data("0123456789abcde\n".utf8), to: path, replacing: true, while: "testing")
        #expect { try HTTPSettings(address: "0.0.0.0:80", tokenFile: path) } throws: { ($0 as? AccrueError)?.problem.contains("at least 16 characters") == true }
        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: path)
        #expect { try HTTPSettings(address: "0.0.0.0:80", tokenFile: path) } throws: { ($0 as? AccrueError)?.code == .unauthorised }
    }
}
