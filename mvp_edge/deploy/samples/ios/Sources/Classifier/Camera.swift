import AVFoundation

/// The back camera's frames, upright as the phone is held, one at a time.
final class Camera: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate {
    let session = AVCaptureSession()
    private let queue: DispatchQueue
    private let onFrame: (Picture) -> Void

    /// `onFrame` is called on `queue`.
    init(queue: DispatchQueue, onFrame: @escaping (Picture) -> Void) {
        self.queue = queue
        self.onFrame = onFrame
        super.init()
    }

    /// Starts the camera; false if there is none.
    func start() throws -> Bool {
        guard let device = AVCaptureDevice.default(.builtInWideAngleCamera, for: .video, position: .back) else {
            return false
        }
        let output = AVCaptureVideoDataOutput()
        output.videoSettings = [kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_32BGRA]
        output.alwaysDiscardsLateVideoFrames = true
        output.setSampleBufferDelegate(self, queue: queue)
        session.beginConfiguration()
        session.sessionPreset = .vga640x480
        session.addInput(try AVCaptureDeviceInput(device: device))
        session.addOutput(output)
        output.connection(with: .video)?.videoRotationAngle = 90  // the sensor lies on its side
        session.commitConfiguration()
        queue.async { self.session.startRunning() }
        return true
    }

    func captureOutput(
        _ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection
    ) {
        if let frame = CMSampleBufferGetImageBuffer(sampleBuffer), let picture = Picture(frame) { onFrame(picture) }
    }
}
