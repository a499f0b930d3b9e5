public import AccrueCore

extension MethodCatalog {
    /// All methods of this engine: one line each.
    public static let standard = MethodCatalog([
        DynamicRouting.name: { (settings, schema) throws(AccrueError) in try DynamicRouting.make(settings, schema) },
        IncrementalBayes.name: { (settings, schema) throws(AccrueError) in try IncrementalBayes.make(settings, schema) },
        StochasticBatchNorm.name: { (settings, schema) throws(AccrueError) in try StochasticBatchNorm.make(settings, schema) },
        VarianceNetwork.name: { (settings, schema) throws(AccrueError) in try VarianceNetwork.make(settings, schema) },
        VariationalDropout.name: { (settings, schema) throws(AccrueError) in try VariationalDropout.make(settings, schema) },
        WeightAveraging.name: { (settings, schema) throws(AccrueError) in try WeightAveraging.make(settings, schema) },
    ])
}
