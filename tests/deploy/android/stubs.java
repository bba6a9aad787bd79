// The classes of Android, CameraX and ONNX Runtime that the sample project uses, as far as it uses them, with the
// signatures of their documentation. `// FILE` begins a file. Only ONNX Runtime's do something: a session writes the
// image that it is given to the file that the property `given` names, and reads its outputs from the file `outputs`.

// FILE ai/onnxruntime/OrtException.java
package ai.onnxruntime;
public class OrtException extends Exception {}

// FILE ai/onnxruntime/OnnxJavaType.java
package ai.onnxruntime;
public enum OnnxJavaType { FLOAT, UINT8 }

// FILE ai/onnxruntime/OnnxValue.java
package ai.onnxruntime;
public interface OnnxValue extends AutoCloseable {
    Object getValue() throws OrtException;
    @Override void close();
}

// FILE ai/onnxruntime/OnnxTensorLike.java
package ai.onnxruntime;
public abstract class OnnxTensorLike implements OnnxValue {}

// FILE ai/onnxruntime/OnnxTensor.java
package ai.onnxruntime;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
public class OnnxTensor extends OnnxTensorLike {
    final byte[] bytes;
    final long[] shape;
    private final Object value;
    OnnxTensor(byte[] bytes, long[] shape, Object value) { this.bytes = bytes; this.shape = shape; this.value = value; }
    public static OnnxTensor createTensor(OrtEnvironment env, FloatBuffer data, long[] shape) throws OrtException {
        if (!data.isDirect() || data.position() != 0) throw new OrtException();
        ByteBuffer copy = ByteBuffer.allocate(4 * data.remaining()).order(java.nio.ByteOrder.LITTLE_ENDIAN);
        while (data.hasRemaining()) copy.putFloat(data.get());
        return new OnnxTensor(copy.array(), shape, null);
    }
    public static OnnxTensor createTensor(OrtEnvironment env, ByteBuffer data, long[] shape, OnnxJavaType type)
        throws OrtException {
        if (!data.isDirect() || data.position() != 0 || type != OnnxJavaType.UINT8) throw new OrtException();
        byte[] copy = new byte[data.remaining()];
        data.get(copy);
        return new OnnxTensor(copy, shape, null);
    }
    @Override public Object getValue() { return value; }
    @Override public void close() {}
}

// FILE ai/onnxruntime/OrtEnvironment.java
package ai.onnxruntime;
public final class OrtEnvironment implements AutoCloseable {
    public static OrtEnvironment getEnvironment() { return new OrtEnvironment(); }
    public OrtSession createSession(byte[] model, OrtSession.SessionOptions options) throws OrtException {
        return new OrtSession();
    }
    @Override public void close() {}
}

// FILE ai/onnxruntime/OrtSession.java
package ai.onnxruntime;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
public class OrtSession implements AutoCloseable {
    public static class SessionOptions implements AutoCloseable {
        public void setIntraOpNumThreads(int count) throws OrtException {}
        @Override public void close() {}
    }
    public static class Result implements AutoCloseable {
        private final Map<String, OnnxValue> found;
        Result(Map<String, OnnxValue> found) { this.found = found; }
        public Optional<OnnxValue> get(String name) { return Optional.ofNullable(found.get(name)); }
        @Override public void close() {}
    }
    public Result run(Map<String, ? extends OnnxTensorLike> inputs) throws OrtException {
        OnnxTensor image = (OnnxTensor) inputs.get("image");
        try {
            Files.write(Path.of(System.getProperty("given")), image.bytes);
            Files.writeString(Path.of(System.getProperty("given") + ".shape"), java.util.Arrays.toString(image.shape));
            String[] words = Files.readString(Path.of(System.getProperty("outputs"))).trim().split("\\s+");
            float[] logits = new float[words.length - 1];
            for (int i = 0; i < logits.length; i++) logits[i] = Float.parseFloat(words[i]);
            float[] known = {Float.parseFloat(words[logits.length])};
            return new Result(Map.of(
                "logits", new OnnxTensor(null, null, new float[][] {logits}), "known", new OnnxTensor(null, null, known)));
        } catch (java.io.IOException e) {
            throw new RuntimeException(e);
        }
    }
    @Override public void close() {}
}

// FILE dev/mvpedge/sample/R.java
package dev.mvpedge.sample;
public final class R {
    public static final class string {
        public static final int none_of_these = 1, no_camera = 2, check_failed = 3;
    }
}

// FILE android/Manifest.java
package android;
public final class Manifest {
    public static final class permission { public static final String CAMERA = "android.permission.CAMERA"; }
}

// FILE android/content/res/AssetManager.java
package android.content.res;
public final class AssetManager { public native java.io.InputStream open(String name) throws java.io.IOException; }

// FILE android/content/Context.java
package android.content;
public abstract class Context {
    public native android.content.res.AssetManager getAssets();
    public final native String getString(int id, Object... values);
    public final native String getString(int id);
}

// FILE android/app/Activity.java
package android.app;
public class Activity extends android.content.Context {
    protected native void onCreate(android.os.Bundle state);
    protected native void onDestroy();
    public native void setContentView(android.view.View view);
    public final native void runOnUiThread(Runnable action);
}

// FILE android/os/Bundle.java
package android.os;
public final class Bundle {}

// FILE android/util/Log.java
package android.util;
public final class Log { public static native int i(String tag, String message); }

// FILE android/graphics/Bitmap.java
package android.graphics;
public final class Bitmap {
    public native int getWidth();
    public native int getHeight();
    public native void getPixels(int[] pixels, int offset, int stride, int x, int y, int width, int height);
}

// FILE android/graphics/BitmapFactory.java
package android.graphics;
public class BitmapFactory { public static native Bitmap decodeStream(java.io.InputStream stream); }

// FILE android/graphics/Color.java
package android.graphics;
public class Color { public static final int BLACK = 0xFF000000, WHITE = 0xFFFFFFFF; }

// FILE android/view/Gravity.java
package android.view;
public class Gravity { public static final int BOTTOM = 80; }

// FILE android/view/View.java
package android.view;
public class View {
    public View(android.content.Context context) {}
    public native void setPadding(int left, int top, int right, int bottom);
    public native void setBackgroundColor(int colour);
}

// FILE android/view/ViewGroup.java
package android.view;
public abstract class ViewGroup extends View {
    public static class LayoutParams { public static final int MATCH_PARENT = -1, WRAP_CONTENT = -2; }
    public ViewGroup(android.content.Context context) { super(context); }
    public native void addView(View child);
    public native void addView(View child, LayoutParams params);
}

// FILE android/widget/FrameLayout.java
package android.widget;
public class FrameLayout extends android.view.ViewGroup {
    public static class LayoutParams extends android.view.ViewGroup.LayoutParams {
        public LayoutParams(int width, int height, int gravity) {}
    }
    public FrameLayout(android.content.Context context) { super(context); }
}

// FILE android/widget/TextView.java
package android.widget;
public class TextView extends android.view.View {
    public TextView(android.content.Context context) { super(context); }
    public final native void setText(CharSequence text);
    public final native void setText(int id);
    public native CharSequence getText();
    public native void setTextColor(int colour);
    public native void setTextSize(float size);
    public native float getTextSize();
}

// FILE androidx/lifecycle/LifecycleOwner.java
package androidx.lifecycle;
public interface LifecycleOwner {}

// FILE androidx/activity/result/ActivityResultCallback.java
package androidx.activity.result;
public interface ActivityResultCallback<O> { void onActivityResult(O result); }

// FILE androidx/activity/result/ActivityResultLauncher.java
package androidx.activity.result;
public abstract class ActivityResultLauncher<I> { public abstract void launch(I input); }

// FILE androidx/activity/result/contract/ActivityResultContract.java
package androidx.activity.result.contract;
public abstract class ActivityResultContract<I, O> {}

// FILE androidx/activity/result/contract/ActivityResultContracts.java
package androidx.activity.result.contract;
public final class ActivityResultContracts {
    public static final class RequestPermission extends ActivityResultContract<String, Boolean> {}
}

// FILE androidx/activity/ComponentActivity.java
package androidx.activity;
import androidx.activity.result.ActivityResultCallback;
import androidx.activity.result.ActivityResultLauncher;
import androidx.activity.result.contract.ActivityResultContract;
public class ComponentActivity extends android.app.Activity implements androidx.lifecycle.LifecycleOwner {
    public final native <I, O> ActivityResultLauncher<I> registerForActivityResult(
        ActivityResultContract<I, O> contract, ActivityResultCallback<O> callback);
}

// FILE androidx/core/content/ContextCompat.java
package androidx.core.content;
public class ContextCompat {
    public static native java.util.concurrent.Executor getMainExecutor(android.content.Context context);
}

// FILE com/google/common/util/concurrent/ListenableFuture.java
package com.google.common.util.concurrent;
public interface ListenableFuture<V> extends java.util.concurrent.Future<V> {
    void addListener(Runnable listener, java.util.concurrent.Executor executor);
}

// FILE androidx/camera/core/UseCase.java
package androidx.camera.core;
public abstract class UseCase {}

// FILE androidx/camera/core/Camera.java
package androidx.camera.core;
public interface Camera {}

// FILE androidx/camera/core/CameraSelector.java
package androidx.camera.core;
public final class CameraSelector { public static final CameraSelector DEFAULT_BACK_CAMERA = null; }

// FILE androidx/camera/core/ImageInfo.java
package androidx.camera.core;
public interface ImageInfo { int getRotationDegrees(); }

// FILE androidx/camera/core/ImageProxy.java
package androidx.camera.core;
public interface ImageProxy extends AutoCloseable {
    @Override void close();
    ImageInfo getImageInfo();
    android.graphics.Bitmap toBitmap();
}

// FILE androidx/camera/core/ImageAnalysis.java
package androidx.camera.core;
public final class ImageAnalysis extends UseCase {
    public static final int STRATEGY_KEEP_ONLY_LATEST = 0, OUTPUT_IMAGE_FORMAT_RGBA_8888 = 2;
    public interface Analyzer { void analyze(ImageProxy image); }
    public native void setAnalyzer(java.util.concurrent.Executor executor, Analyzer analyzer);
    public static final class Builder {
        public native Builder setBackpressureStrategy(int strategy);
        public native Builder setOutputImageFormat(int format);
        public native ImageAnalysis build();
    }
}

// FILE androidx/camera/core/Preview.java
package androidx.camera.core;
public final class Preview extends UseCase {
    public interface SurfaceProvider {}
    public native void setSurfaceProvider(SurfaceProvider provider);
    public static final class Builder { public native Preview build(); }
}

// FILE androidx/camera/lifecycle/ProcessCameraProvider.java
package androidx.camera.lifecycle;
import androidx.camera.core.CameraSelector;
import androidx.camera.core.UseCase;
import com.google.common.util.concurrent.ListenableFuture;
public final class ProcessCameraProvider {
    public static native ListenableFuture<ProcessCameraProvider> getInstance(android.content.Context context);
    public native androidx.camera.core.Camera bindToLifecycle(
        androidx.lifecycle.LifecycleOwner owner, CameraSelector selector, UseCase... cases);
}

// FILE androidx/camera/view/PreviewView.java
package androidx.camera.view;
public final class PreviewView extends android.widget.FrameLayout {
    public PreviewView(android.content.Context context) { super(context); }
    public native androidx.camera.core.Preview.SurfaceProvider getSurfaceProvider();
}
