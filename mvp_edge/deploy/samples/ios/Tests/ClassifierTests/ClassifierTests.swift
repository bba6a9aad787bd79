import XCTest

@testable import Classifier

final class ClassifierTests: XCTestCase {
    func testTheGoldenPictureGivesTheOutputsOfTheExport() throws {
        _ = try Classifier()  // throws if it does not
    }

    func testAPictureOfTheModelsSizeStaysAsItIs() {
        let rgb = (0..<3 * Model.width * Model.height).map { UInt8($0 % 256) }
        let picture = Picture(width: Model.width, height: Model.height, rgb: rgb)
        XCTAssertEqual(picture.cover(Model.width, Model.height).ordered(coloursLast: true), rgb)
    }
}
