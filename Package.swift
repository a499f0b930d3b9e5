// swift-tools-version: 6.2
// Accrue: Bayesian posteriors that stay current while data keeps arriving.
//
// The targets below are the layers of the system, lowest first; each may import only what stands above it in this file.
//
// Environment:
//   ACCRUE_ENGINE=0        leave out the engine (everything that needs libtorch) and its tests: the rest builds and tests without it
//   ACCRUE_LIBTORCH=<dir>  build the engine against the libtorch in <dir> (with include/ and lib/) instead of Debian's
import PackageDescription

let environment = Context.environment
let withEngine = environment["ACCRUE_ENGINE"] != "0"
let libtorch = environment["ACCRUE_LIBTORCH"]

let strict: [SwiftSetting] = [
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("ExistentialAny"),
    .treatAllWarnings(as: .error),
]

func layer(
    _ name: String, _ dependencies: [Target.Dependency], resources: [Resource]? = nil, settings: [SwiftSetting] = []
) -> Target {
    .target(name: name, dependencies: dependencies, resources: resources, swiftSettings: strict + settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: strict)
}

let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")
let hummingbird = ["Hummingbird", "HummingbirdCore"].map { Target.Dependency.product(name: $0, package: "hummingbird") }

var targets: [Target] = [
    .systemLibrary(name: "CZeroMQ", providers: [.apt(["libzmq3-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    .systemLibrary(name: "CLinux"),
    .target(name: "CSHA256"),
    layer("AccrueCore", ["CSHA256", crypto]),
    layer("AccrueStore", ["AccrueCore", grdb]),
    layer("AccrueWire", ["AccrueCore", "CZeroMQ"]),
    layer("AccrueClient", ["AccrueCore", "AccrueWire", "CZlib"]),
    layer("AccrueHTTP", ["AccrueCore", "AccrueWire", "AccrueClient"] + hummingbird),
    layer("AccrueCoordinator", ["AccrueCore", "AccrueStore", "AccrueWire"]),
    layer("AccrueWorker", ["AccrueCore", "AccrueWire", "CLinux"]),
    .executableTarget(name: "accrue", dependencies: ["AccrueCore", "AccrueStore", "AccrueWire", "AccrueClient", "AccrueHTTP", "AccrueCoordinator", arguments, yams], swiftSettings: strict),
    .target(name: "AccrueTesting", dependencies: ["AccrueCore", "AccrueWire", "CZeroMQ"], path: "Tests/AccrueTesting", swiftSettings: strict),
    tests("AccrueCoreTests", ["AccrueCore", "AccrueTesting"]),
    tests("AccrueStoreTests", ["AccrueStore", "AccrueCore", grdb]),
    tests(
        "AccrueProcessTests", (withEngine ? ["accrue-engine"] : []) + ["accrue", "AccrueCore", "AccrueTesting"], exclude: withEngine ? [] : ["WithEngine"]),
    tests("AccrueWireTests", ["AccrueWire", "AccrueCore", "AccrueTesting"]),
    tests(
        "AccrueCoordinatorTests", ["AccrueCoordinator", "AccrueStore", "AccrueWorker", "AccrueWire", "AccrueCore", "AccrueTesting"]),
    tests("AccrueHTTPTests", ["AccrueHTTP", "AccrueWire", "AccrueCore"] + hummingbird),
    tests("AccrueClusterTests", ["AccrueHTTP", "AccrueClient", "AccrueCoordinator", "AccrueWorker", "AccrueWire", "AccrueCore", "AccrueTesting"]),
    tests("AccrueClientTests", ["AccrueClient", "AccrueWire", "AccrueCore", "AccrueTesting"]),
    tests("AccrueWorkerTests", ["AccrueWorker", "AccrueWire", "AccrueCore", "AccrueTesting"]),
]

if withEngine {
    // The kernels are optimised in debug builds too: tests then run them as they are shipped, and in reasonable time.
    var cxx: [CXXSetting] = [.unsafeFlags(["-O2"])]
    var torchLinking: [LinkerSetting] = [
        .linkedLibrary("torch"), .linkedLibrary("torch_cpu"), .linkedLibrary("c10"),
    ]
    if let libtorch {
        cxx += [.unsafeFlags(["-I\(libtorch)/include"])]
        // By path: folders of other libraries come first in the search, and Debian's libtorch may lie in one of them.
        let paths = ["libtorch.so", "libtorch_cpu.so", "libc10.so"].flatMap { ["-Xlinker", "\(libtorch)/lib/\($0)"] }
        torchLinking = [.unsafeFlags(paths + ["-Xlinker", "-rpath=\(libtorch)/lib"])]
    }
    targets += [
        .target(name: "CTorch", cxxSettings: cxx, linkerSettings: torchLinking),
        layer("AccrueTensor", ["AccrueCore", "CTorch"]),
        layer("AccrueBayes", ["AccrueTensor", "AccrueCore"]),
        layer("AccrueMethods", ["AccrueBayes", "AccrueTensor", "AccrueCore"]),
        .executableTarget(
            name: "accrue-engine", dependencies: ["AccrueMethods", "AccrueBayes", "AccrueTensor", "AccrueWorker", "AccrueClient", "AccrueWire", "AccrueCore", arguments],
            swiftSettings: strict),
        tests("AccrueTensorTests", ["AccrueTensor", "AccrueCore"]),
        tests("AccrueBayesTests", ["AccrueBayes", "AccrueTensor", "AccrueCore"]),
        tests("AccrueMethodsTests", ["AccrueMethods", "AccrueBayes", "AccrueTensor", "AccrueCore"]),
    ]
}

let package = Package(
    name: "accrue",
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
    ],
    targets: targets,
    // Debian's libtorch 1.13 compiles as C++17 only, those after 2.11 or so as C++20 only.
    cxxLanguageStandard: libtorch == nil ? .cxx17 : .cxx20
)
