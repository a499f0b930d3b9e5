import AccrueCore
import Foundation
import Testing

@Suite("Pipeline files")
struct DeclarationTests {
    static func file(_ change: (inout [String: JSONValue]) -> Void = { _ in }) -> JSONValue {
        var fields: [String: JSONValue] = [
            "name": "digits", "method": "Toy", "seed": 1, "round": ["chunks": 2],
            "schema": [["name": "inputs", "role": "input", "dtype": "U8", "shape": [2]]],
        ]
        change(&fields)
        return .object(fields)
    }

    @Test("a well-formed file is read, with its defaults")
    func wellFormed() throws {
        let pipeline = try PipelineDeclaration(parsing: Self.file())
        #expect(pipeline.shards == 1 && pipeline.sweeps == 1 && pipeline.round.chunks == 2 && pipeline.round.linger == nil)
    }

    @Test("an unknown key is refused and the nearest known key named")
    func unknownKey() {
        #expect { try PipelineDeclaration(parsing: Self.file { $0["swepes"] = 2 }) } throws: {
            let error = $0 as? AccrueError
            return error?.code == .invalidInput && error?.hint.contains("'sweeps'") == true
        }
    }

    @Test("values out of range are refused, naming the value and the range")
    func outOfRange() {
        let bad: [(String, JSONValue)] = [
            ("shards", 0), ("shards", 1_000_000), ("sweeps", "two"), ("replicas", 0), ("replicas", 4), ("round", ["chunks": 0]), ("round", ["linger": -1]), ("seed", -1),
            ("name", "Digits"), ("name", "../x"), ("schema", []), ("schema", [["name": "a", "role": "input", "dtype": "U8", "shape": [0]]]),
        ]
        for (key, value) in bad {
            #expect { try PipelineDeclaration(parsing: Self.file { $0[key] = value }) } throws: { ($0 as? AccrueError)?.code == .invalidInput }
        }
    }

    @Test("a picture's format and pooling say what its rows become, and are refused where they do not fit")
    func pictures() throws {
        func schema(_ shape: JSONValue, _ transform: JSONValue, dtype: String = "U8") -> JSONValue {
            Self.file { $0["schema"] = [["name": "inputs", "role": "input", "dtype": .string(dtype), "shape": shape, "transform": transform]] }
        }
        func read(_ shape: JSONValue, _ transform: JSONValue) throws -> [Int]? { try PipelineDeclaration(parsing: schema(shape, transform)).schema["inputs"]?.transformedShape }
        #expect(try read([1536], ["format": "i420"]) == [3, 32, 32] && read([1536], ["format": "i420", "pool": 2]) == [3, 16, 16])
        #expect(try read([28, 28], ["pool": 4]) == [7, 7] && read([3, 8, 6], ["pool": 2]) == [3, 4, 3] && read([5], ["scale": 2]) == [5])
        for wrong in [
            schema([1535], ["format": "i420"]), schema([48, 32], ["format": "i420"]), schema([1536], ["format": "i420"], dtype: "F32"), schema([1536], ["format": "rgb"]),
            schema([1536], ["pool": 2]), schema([28, 28], ["pool": 3]), schema([28, 28], ["pool": 0]), schema([6], ["format": "i420", "pool": 3]),
        ] { #expect { try PipelineDeclaration(parsing: wrong) } throws: { ($0 as? AccrueError)?.code == .invalidInput } }
    }

    @Test("a tensor's rows may lie in several files")
    func severalFiles() throws {
        func origin(_ files: JSONValue) throws -> DataSource.Origin { try RunDeclaration(parsing: Self.file { $0["source"] = ["tensors": ["inputs": files]] }).source.origin }
        #expect(try origin("a.gz") == .tensors(["inputs": ["a.gz"]]) && origin(["a.gz", "b.gz"]) == .tensors(["inputs": ["a.gz", "b.gz"]]))
        for wrong: JSONValue in [[], ["a.gz", 2], 3] { #expect { try origin(wrong) } throws: { ($0 as? AccrueError)?.code == .invalidInput } }
    }

    @Test("an expectation fails outside its bounds and for figures that are missing or not finite")
    func expectations() throws {
        let run = try RunDeclaration(
            parsing: Self.file {
                $0["source"] = ["inline": ["inputs": [[1, 2]]]]
                $0["expect"] = ["accuracy": ["atLeast": 0.9], "mean": ["value": [1, 2], "tolerance": 0.1]]
            })
        let accuracy = run.expectations[0], mean = run.expectations[1]
        #expect(accuracy.failure(0.95) == nil && accuracy.failure(0.8) != nil && accuracy.failure(nil) != nil)
        #expect(accuracy.failure(.number(.nan)) != nil)
        #expect(mean.failure([1.05, 1.95]) == nil && mean.failure([1.2, 2]) != nil && mean.failure([1]) != nil)
    }

    @Test("a profile's values stand over the file's, key by key; null takes a key away")
    func profiles() throws {
        let file = Self.file {
            $0["settings"] = ["epochs": 100, "model": ["kind": "dense", "hidden": [300, 100]]]
            $0["source"] = ["csv": "x.csv", "rowsPerChunk": 500]
            $0["expect"] = ["accuracy": ["atLeast": 0.98], "ece": ["atMost": 0.01]]
            $0["profiles"] = ["quick": ["settings": ["epochs": 3, "model": ["hidden": [10]]], "source": ["rows": 2_000], "expect": ["accuracy": ["atLeast": 0.9], "ece": .null]]]
        }
        _ = try PipelineDeclaration(parsing: file)
        let quick = try RunProfile.applying("quick", to: file)
        let run = try RunDeclaration(parsing: quick)
        #expect(try PipelineDeclaration(parsing: quick).settings == ["epochs": 3, "model": ["kind": "dense", "hidden": [10]]])
        #expect(run.source.rows == 2_000 && run.source.rowsPerChunk == 500 && run.source.origin == .csv("x.csv"))
        #expect(run.expectations.map(\.name) == ["accuracy"] && run.expectations[0].atLeast == 0.9)
    }

    @Test("profiles that are not there or change what the pipeline is are refused")
    func badProfiles() throws {
        func file(_ profiles: JSONValue) -> JSONValue { Self.file { $0["profiles"] = profiles } }
        #expect { try RunProfile.applying("quik", to: file(["quick": [:]])) } throws: {
            let error = $0 as? AccrueError
            return error?.code == .notFound && error?.hint.contains("quick") == true
        }
        #expect { try RunProfile.applying("quick", to: file([:])) } throws: { ($0 as? AccrueError)?.code == .notFound }
        for profile: JSONValue in [["method": "Toy"], ["schema": []], ["setings": [:]], 3] {
            #expect { try RunProfile.applying("quick", to: file(["quick": profile])) } throws: { ($0 as? AccrueError)?.code == .invalidInput }
        }
        #expect { try PipelineDeclaration(parsing: file(["quick"])) } throws: { ($0 as? AccrueError)?.code == .invalidInput }
    }

    @Test("chunk ranges cover the asked-for rows in order", arguments: [(10, 0, 4, 3), (10, 3, 100, 4), (5, 5, 1, 1)])
    func chunkRanges(available: Int, first: Int, rows: Int, perChunk: Int) throws {
        let run = try RunDeclaration(
            parsing: Self.file {
                $0["source"] = ["csv": "x.csv", "firstRow": .integer(first), "rows": .integer(rows), "rowsPerChunk": .integer(perChunk)]
            })
        let ranges = run.source.chunkRanges(available: available)
        #expect(ranges.flatMap { Array($0) } == Array(first..<max(first, min(available, first + rows))))
        #expect(ranges.allSatisfy { $0.count <= perChunk })
    }

    @Test("a retention is all, none or versions N", arguments: [("all", Retention.all), ("none", Retention.none), ("versions 3", Retention.versions(3)), ("versions 0", nil), ("versions", nil), ("some", nil)])
    func retention(text: String, meant: Retention?) {
        #expect(Retention(text) == meant && meant.map { $0.text == text } != false)
    }

    @Test("with N versions kept, a version's chunks go when the N-th newer one is committed")
    func retained() {
        #expect(Retention.versions(2).keeps(absorbedBy: 1, newest: 2) && !Retention.versions(2).keeps(absorbedBy: 1, newest: 3))
        #expect(Retention.versions(2).expired(by: 2) == nil && Retention.versions(2).expired(by: 3) == 1)
        #expect(Retention.none.expired(by: 3) == 3 && Retention.all.expired(by: 3) == nil)
    }
}
