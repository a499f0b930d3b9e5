import AccrueCore
import Foundation
import Yams

/// A pipeline file: YAML, or JSON, which YAML includes.
enum PipelineFile {
    /// - Throws: `notFound` when the file cannot be read, `invalidInput` when it is not YAML, with the line.
    static func read(_ path: String) throws(AccrueError) -> JSONValue {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            throw AccrueError(.notFound, while: "reading pipeline file \(path)", "the file cannot be read as UTF-8 text", hint: "check the path")
        }
        let node: Node?
        do { node = try Yams.compose(yaml: text) } catch {
            throw AccrueError(.invalidInput, while: "reading pipeline file \(path)", "not YAML: \(error)", hint: "check indentation and brackets there")
        }
        guard let node else { throw AccrueError(.invalidInput, while: "reading pipeline file \(path)", "the file is empty") }
        return try json(node, path: path)
    }

    /// The file with other values at some places, each given as `key.key=value`, the value as YAML; `null` takes a key away, as in a profile.
    /// - Throws: `invalidInput` when one has no `=`, leads through a value that is no mapping, or is not YAML.
    static func setting(_ changes: [String], in file: JSONValue) throws(AccrueError) -> JSONValue {
        var file = file
        for change in changes {
            let operation = "reading --set \(change)"
            let parts = change.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, !parts[0].isEmpty else {
                throw AccrueError(.invalidInput, while: operation, "there is no 'key=value'", hint: "write for example --set settings.epochs=10")
            }
            let node: Node?
            do { node = try Yams.compose(yaml: String(parts[1])) } catch { throw AccrueError(.invalidInput, while: operation, "not YAML: \(error)") }
            guard let node else { throw AccrueError(.invalidInput, while: operation, "the value is empty") }
            file = try setting(parts[0].split(separator: ".").map(String.init)[...], to: try json(node, path: operation), in: file, while: operation)
        }
        return file
    }

    private static func setting(_ path: ArraySlice<String>, to value: JSONValue, in mapping: JSONValue, while operation: String) throws(AccrueError) -> JSONValue {
        guard let key = path.first else { return value }
        guard case .object(var fields) = mapping else {
            throw AccrueError(.invalidInput, while: operation, "'\(key)' would lie in \(mapping.canonical), which is no mapping", hint: "check the path of keys")
        }
        if case .null = value, path.count == 1 {
            fields[key] = nil
            return .object(fields)
        }
        fields[key] = try setting(path.dropFirst(), to: value, in: fields[key] ?? .object([:]), while: operation)
        return .object(fields)
    }

    private static func json(_ node: Node, path: String) throws(AccrueError) -> JSONValue {
        switch node {
        case .mapping(let mapping):
            var fields: [String: JSONValue] = [:]
            for (key, value) in mapping {
                guard let name = key.string else {
                    throw AccrueError(.invalidInput, while: "reading pipeline file \(path)", "a key in line \(key.mark?.line ?? 0) is not a word")
                }
                guard fields[name] == nil else {
                    throw AccrueError(.invalidInput, while: "reading pipeline file \(path)", "key '\(name)' in line \(key.mark?.line ?? 0) stands there twice")
                }
                fields[name] = try json(value, path: path)
            }
            return .object(fields)
        case .sequence(let sequence):
            var values: [JSONValue] = []
            for value in sequence { values.append(try json(value, path: path)) }
            return .array(values)
        case .scalar(let scalar):
            // Quoted scalars are strings whatever they look like.
            guard scalar.style == .plain else { return .string(scalar.string) }
            if node.null != nil { return .null }
            if let value = node.bool { return .bool(value) }
            if let value = node.int { return .integer(value) }
            // `nan` and `inf` are words; `.nan` and `.inf` would be numbers.
            if let value = node.float, scalar.string.contains(where: { $0.isNumber || $0 == "." }) { return .number(value) }
            return .string(scalar.string)
        case .alias:
            throw AccrueError(.invalidInput, while: "reading pipeline file \(path)", "aliases are not supported", hint: "write the value out")
        }
    }
}
