import Foundation

/// The natural logarithm; one place that imports Foundation for it.
func logarithm(_ value: Double) -> Double { Foundation.log(value) }
