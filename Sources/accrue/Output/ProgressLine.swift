import Foundation

/// One line on the terminal that is written over as work goes on; nothing when standard error is not a terminal.
struct ProgressLine {
    private let isShown = isatty(2) == 1

    func show(_ text: String) { if isShown { write("\r\u{1B}[K\(text)") } }

    /// Removes the line; what comes next is written in its place.
    func clear() { if isShown { write("\r\u{1B}[K") } }

    private func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}
