import AccrueClient
import AccrueCore
import ArgumentParser

/// Rows from files: a tensor a file, or a CSV file by a schema.
struct RowOptions: ParsableArguments {
    @Option(name: .customLong("tensor"), help: ArgumentHelp("A tensor of the schema and its file: IDX, NPY or safetensors, gzipped or not. Repeat it.", valueName: "name=file"))
    var tensors: [String] = []
    @Option(help: "The first row to take, from 0.") var firstRow = 0
    @Option(help: "How many rows to take at most; else all.") var rows: Int?

    /// - Throws: what reading the files throws; `invalidInput` when they do not go together.
    func read(while operation: String) throws(AccrueError) -> TensorRows {
        var read: [String: TensorBytes] = [:]
        for tensor in tensors {
            let parts = tensor.split(separator: "=", maxSplits: 1).map(String.init)
            guard parts.count == 2 else { throw AccrueError(.invalidInput, while: operation, "'--tensor \(tensor)' is not NAME=FILE", hint: "for example --tensor inputs=images.gz") }
            guard read[parts[0]] == nil else { throw AccrueError(.invalidInput, while: operation, "tensor '\(parts[0])' is given twice") }
            read[parts[0]] = try TensorFile.read(parts[1], tensor: parts[0])
        }
        return try TensorRows(read, while: operation).stretch(from: firstRow, rows: rows, while: operation)
    }

    /// - Parameter needsTargets: whether the columns of targets must be there.
    /// - Throws: what reading the file throws; `invalidInput` when it does not fit the schema, or tensors are given too.
    func read(csv path: String, schema: Schema, needsTargets: Bool = true, while operation: String) throws(AccrueError) -> TensorRows {
        guard tensors.isEmpty else { throw AccrueError(.invalidInput, while: operation, "both a CSV file and --tensor are given", hint: "give one of them") }
        return try TensorRows(try CSVFile(path: path).tensors(schema, needsTargets: needsTargets), while: operation).stretch(from: firstRow, rows: rows, while: operation)
    }
}
