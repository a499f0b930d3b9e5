public import AccrueCore
import Foundation

/// One tensor from a file: IDX or NPY (gzipped or not), or a safetensors file that holds one tensor or one of the wanted name.
public enum TensorFile {
    /// - Parameter name: the schema tensor that the file is for.
    /// - Throws: `notFound`, `corrupt`, or `invalidInput` when the file's format is not known or holds no such tensor.
    public static func read(_ path: String, tensor name: String) throws(AccrueError) -> TensorBytes {
        let data = try GzipFile.read(path)
        if data.starts(with: NPYFile.magic) { return try NPYFile.decode(data, path: path) }
        if data.count >= 4, data[data.startIndex] == 0, data[data.startIndex + 1] == 0 { return try IDXFile.decode(data, path: path) }
        let file: Safetensors
        do { file = try Safetensors.decode(data) } catch {
            throw AccrueError(
                .invalidInput, while: "reading \(path)", "not IDX, NPY or safetensors (\(error.problem))", hint: "convert it; a CSV file with a header line can be pushed as it is, without --tensor")
        }
        if let tensor = file.tensors[name] { return tensor }
        if file.tensors.count == 1, let only = file.tensors.values.first { return only }
        throw AccrueError(
            .invalidInput, while: "reading \(path)", "there is no tensor '\(name)' among \(file.tensors.keys.sorted().joined(separator: ", "))",
            hint: "name the tensor as the schema does")
    }
}
