import AVFoundation
import SwiftUI
import UIKit

/// Says what the back camera sees, once the model has passed its self-check. An app shows it: `ClassifierView()`.
public struct ClassifierView: View {
    @StateObject private var model = ClassifierModel()

    public init() {}

    public var body: some View {
        ZStack(alignment: .bottom) {
            if let session = model.session { CameraPreview(session: session).ignoresSafeArea() }
            Text(model.answer)
                .font(.title2)
                .padding()
                .frame(maxWidth: .infinity)
                .background(.thinMaterial)
        }
        .task { await model.start() }
    }
}

@MainActor
final class ClassifierModel: ObservableObject {
    @Published var answer = ""
    @Published var session: AVCaptureSession?
    private var camera: Camera?
    private let queue = DispatchQueue(label: "dev.mvpedge.classifier")

    func start() async {
        guard camera == nil else { return }
        do {
            let classifier = try Classifier()
            guard await AVCaptureDevice.requestAccess(for: .video) else {
                answer = "This app needs the camera: allow it in the settings."
                return
            }
            let made = Camera(queue: queue) { [weak self] picture in
                let text = Self.text(classifier, picture)
                Task { @MainActor in self?.answer = text }
            }
            camera = made
            session = try made.start() ? made.session : nil
        } catch {
            answer = error.localizedDescription
        }
    }

    private nonisolated static func text(_ classifier: Classifier, _ picture: Picture) -> String {
        guard let found = try? classifier.classify(picture) else { return "The model cannot be run." }
        let shown = found.prefix(3).map { "\($0.label) \(Int((100 * $0.probability).rounded())) %" }
        return shown.isEmpty ? "none of these" : shown.joined(separator: "\n")
    }
}

private struct CameraPreview: UIViewRepresentable {
    let session: AVCaptureSession

    func makeUIView(context: Context) -> PreviewView {
        let view = PreviewView()
        view.preview?.session = session
        view.preview?.videoGravity = .resizeAspectFill
        return view
    }

    func updateUIView(_ view: PreviewView, context: Context) {}

    final class PreviewView: UIView {
        override class var layerClass: AnyClass { AVCaptureVideoPreviewLayer.self }
        var preview: AVCaptureVideoPreviewLayer? { layer as? AVCaptureVideoPreviewLayer }
    }
}
