package dev.mvpedge.sample

import android.Manifest
import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Color
import android.os.Bundle
import android.util.Log
import android.view.Gravity
import android.view.ViewGroup.LayoutParams.MATCH_PARENT
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.FrameLayout
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.core.Preview
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.camera.view.PreviewView
import androidx.core.content.ContextCompat
import java.util.concurrent.Executors

/** Says what the back camera sees, once the model has passed its self-check. */
class MainActivity : ComponentActivity() {
    private val worker = Executors.newSingleThreadExecutor() // only it uses the classifier
    private var classifier: Classifier? = null
    private lateinit var view: PreviewView
    private lateinit var answer: TextView
    private val permission = registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
        if (granted) watch() else answer.setText(R.string.no_camera)
    }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        view = PreviewView(this)
        answer = TextView(this)
        answer.textSize = 24f
        answer.setTextColor(Color.WHITE)
        answer.setBackgroundColor(Color.BLACK)
        answer.setPadding(48, 48, 48, 96)
        val page = FrameLayout(this)
        page.addView(view)
        page.addView(answer, FrameLayout.LayoutParams(MATCH_PARENT, WRAP_CONTENT, Gravity.BOTTOM))
        setContentView(page)
        worker.execute {
            val problem = start()
            runOnUiThread {
                if (problem == null) permission.launch(Manifest.permission.CAMERA) else answer.text = problem
            }
        }
    }

    /** Loads the model and classifies the golden picture; returns what is wrong with the result, or null. */
    private fun start(): String? {
        val made = Classifier(assets.open(Model.FILE).use { it.readBytes() }, lines("labels.txt"))
        val golden = assets.open("golden.png").use { BitmapFactory.decodeStream(it) }
        val expected = lines("golden.txt").map { it.toFloat() }.toFloatArray()
        val difference = made.difference(picture(golden, 0), expected)
        Log.i("mvp-edge", "self-check: largest difference $difference, at most ${Model.TOLERANCE}")
        classifier = made
        val passed = difference <= Model.TOLERANCE // false if it is not a number
        return if (passed) null else getString(R.string.check_failed, difference, Model.TOLERANCE)
    }

    private fun watch() {
        val provider = ProcessCameraProvider.getInstance(this)
        val bind = Runnable {
            val preview = Preview.Builder().build()
            preview.setSurfaceProvider(view.surfaceProvider)
            val analysis = ImageAnalysis.Builder()
                .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
                .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
                .build()
            analysis.setAnalyzer(worker) { frame -> look(frame) }
            provider.get().bindToLifecycle(this, CameraSelector.DEFAULT_BACK_CAMERA, preview, analysis)
        }
        provider.addListener(bind, ContextCompat.getMainExecutor(this))
    }

    private fun look(frame: ImageProxy) {
        val picture = frame.use { picture(it.toBitmap(), it.imageInfo.rotationDegrees) }
        val found = classifier?.classify(picture) ?: return
        val shown = found.take(3).joinToString("\n") { (label, share) -> "$label %.0f %%".format(100 * share) }
        runOnUiThread { answer.text = shown.ifEmpty { getString(R.string.none_of_these) } }
    }

    private fun picture(bitmap: Bitmap, degrees: Int): Picture {
        val pixels = IntArray(bitmap.width * bitmap.height)
        bitmap.getPixels(pixels, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
        return Picture.of(pixels, bitmap.width, bitmap.height, degrees)
    }

    private fun lines(name: String): List<String> = assets.open(name).bufferedReader().use { it.readLines() }

    override fun onDestroy() {
        worker.execute { classifier?.close() }
        worker.shutdown()
        super.onDestroy()
    }
}
