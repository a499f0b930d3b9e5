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
            if let value = node.float { return .number(value) }
            return .string(scalar.string)
        case .alias:
            throw AccrueError(.invalidInput, while: "reading pipeline file \(path)", "aliases are not supported", hint: "write the value out")
        }
    }
}
