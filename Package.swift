// swift-tools-version: 6.2
// Accrue: Bayesian posteriors that stay current while data keeps arriving.
//
// The targets below are the layers of the system, lowest first; each may import only what stands above it in this file.
import PackageDescription

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

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: strict)
}

let grdb = Target.Dependency.product(name: "GRDB", package: "GRDB.swift")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")

let targets: [Target] = [
    .systemLibrary(name: "CZeroMQ", providers: [.apt(["libzmq3-dev"])]),
    .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
    layer("AccrueCore", [crypto]),
    layer("AccrueStore", ["AccrueCore", grdb]),
    layer("AccrueWire", ["AccrueCore", "CZeroMQ"]),
    layer("AccrueClient", ["AccrueCore", "AccrueWire", "CZlib"]),
    .target(name: "AccrueTesting", dependencies: ["AccrueCore"], path: "Tests/AccrueTesting", swiftSettings: strict),
    tests("AccrueCoreTests", ["AccrueCore", "AccrueTesting"]),
    tests("AccrueStoreTests", ["AccrueStore", "AccrueCore", grdb]),
    tests("AccrueWireTests", ["AccrueWire", "AccrueCore"]),
    tests("AccrueClientTests", ["AccrueClient", "AccrueWire", "AccrueCore"]),
]

let package = Package(
    name: "accrue",
    dependencies: [
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
    ],
    targets: targets,
    cxxLanguageStandard: .cxx17
)
