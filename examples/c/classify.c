/*
 * Classifies a PNG with a petinfer model file, in C, without Python: written from docs/model-file.md.
 *
 *     cc -O2 classify.c -o classify -lpng -lonnxruntime -lm
 *     ./classify model.onnx photo.png [PIXELS]
 *
 * Prints each label with its probability. Where the description has a threshold, the photo has all labels over it.
 * PIXELS, if given, receives the network's input, uint8 [height, width, 3].
 * Needs libpng, and onnxruntime 1.18 or newer with its C header, from its release page. Resizes as fastai does by
 * default (crop, bilinear); other model files are refused.
 */

#include <onnxruntime_c_api.h>
#include <png.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { API_VERSION = 17, MAX_LABELS = 1000, BITS = 22 /* fractional bits of a weight, Pillow's PRECISION_BITS */ };

typedef struct { int width, height; uint8_t *rgb; } Image;
typedef struct { char *labels[MAX_LABELS]; int count, height, width, upright; } Description;

static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

static void *allocate(size_t size)
{
    void *memory = calloc(size ? size : 1, 1);
    if (!memory) die("out of memory: %zu bytes", size);
    return memory;
}

/* ---- The description: JSON in the metadata entry "petinfer" ---- */

static const char *skip_space(const char *at) { return at + strspn(at, " \t\r\n"); }

static const char *skip_string(const char *at)
{
    for (at++; *at && *at != '"'; at++)
        if (*at == '\\' && at[1]) at++;
    if (!*at) die("model: its metadata is not JSON");
    return at + 1;
}

static const char *skip_value(const char *at)
{
    int depth = 0;
    do {
        at = skip_space(at);
        if (!*at) die("model: its metadata is not JSON");
        if (*at == '"') { at = skip_string(at); continue; }
        if (*at == '{' || *at == '[') depth++;
        else if (*at == '}' || *at == ']') depth--;
        else if (*at != ',' && *at != ':') { at += strcspn(at, ",:]} \t\r\n"); continue; }
        at++;
    } while (depth > 0);
    return at;
}

/* The value of a key of an object, or NULL: not of the objects inside it, which may have the same key. */
static const char *find(const char *object, const char *key)
{
    const char *at = skip_space(object);
    if (*at != '{') die("model: its metadata is not a JSON object");
    for (at = skip_space(at + 1); *at == '"'; at = skip_space(at + strspn(at, ","))) {
        const char *name = at + 1, *end = skip_string(at);
        const char *value = skip_space(skip_space(end) + 1);
        if ((size_t)(end - 1 - name) == strlen(key) && !strncmp(name, key, strlen(key))) return value;
        at = skip_space(skip_value(value));
    }
    return NULL;
}

static const char *member(const char *object, const char *key)
{
    const char *value = find(object, key);
    if (!value) die("model: its description lacks %s (export it again)", key);
    return value;
}

/* A text of the description; export writes UTF-8, so that only quotes and backslashes are escaped. */
static char *text(const char *value)
{
    if (*value != '"') die("model: its description holds %.20s where a text belongs", value);
    const char *end = skip_string(value) - 1;
    char *result = allocate(end - value), *to = result;
    for (const char *at = value + 1; at < end; at++) {
        if (*at == '\\') at++;
        *to++ = *at;
    }
    return result;
}

static void require(const char *object, const char *key, const char *only)
{
    char *value = text(member(object, key));
    if (strcmp(value, only)) die("model: %s is %s; this example knows %s only", key, value, only);
    free(value);
}

static Description describe(const char *json)
{
    Description found = {0};
    int schema = atoi(member(json, "schema"));
    if (schema != 1 && schema != 2) die("model: its schema is not 1 or 2; this example knows no other");
    if (find(json, "mode")) require(json, "mode", "RGB");
    const char *at = skip_space(member(json, "labels") + 1);
    while (*at == '"') {
        if (found.count == MAX_LABELS) die("model: more than %d labels", MAX_LABELS);
        found.labels[found.count++] = text(at);
        at = skip_space(skip_string(at));
        if (*at == ',') at = skip_space(at + 1);
    }
    const char *resize = member(json, "resize");
    require(resize, "method", "crop");
    require(resize, "resample", "bilinear");
    if (sscanf(member(resize, "size"), "[ %d , %d ]", &found.height, &found.width) != 2) die("model: no resize.size");
    char *orientation = text(member(json, "orientation"));
    found.upright = !strcmp(orientation, "upright");
    free(orientation);
    return found;
}

/* ---- From a PNG to RGB, as Pillow's convert("RGB") ---- */

static void png_failed(png_structp png, png_const_charp problem)
{
    die("%s: %s", (const char *)png_get_error_ptr(png), problem);
}

static void png_warned(png_structp png, png_const_charp problem) { (void)png; (void)problem; }

static uint32_t number(const uint8_t *at, int bytes, int little)
{
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | at[little ? bytes - 1 - i : i];
    return value;
}

/* The EXIF orientation, 1 to 8; 1 where the photo has none, or one that cannot be read. */
static int orientation_of(png_structp png, png_infop info)
{
    png_bytep exif;
    png_uint_32 size;
    if (!png_get_eXIf_1(png, info, &size, &exif) || size < 10) return 1;
    int little = exif[0] == 'I';
    uint64_t directory = number(exif + 4, 4, little);
    if (directory + 2 > size) return 1;
    uint64_t end = directory + 2 + 12 * (uint64_t)number(exif + directory, 2, little);
    for (uint64_t at = directory + 2; at < end && at + 12 <= size; at += 12) {
        const uint8_t *entry = exif + at;
        if (number(entry, 2, little) != 0x0112) continue;
        uint32_t value = number(entry + 8, 2, little);
        int sound = number(entry + 2, 2, little) == 3 && number(entry + 4, 4, little) == 1; /* one 16-bit number */
        return sound && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

static Image turn(Image image, int orientation)
{
    if (orientation == 1) return image;
    int swapped = orientation >= 5;
    int mirrored = strchr("2367", '0' + orientation) != NULL, flipped = strchr("3478", '0' + orientation) != NULL;
    Image out = {swapped ? image.height : image.width, swapped ? image.width : image.height, NULL};
    out.rgb = allocate((size_t)out.width * out.height * 3);
    for (int y = 0; y < out.height; y++)
        for (int x = 0; x < out.width; x++) {
            int row = flipped ? out.height - 1 - y : y, column = mirrored ? out.width - 1 - x : x;
            size_t from = swapped ? (size_t)column * image.width + row : (size_t)row * image.width + column;
            memcpy(out.rgb + ((size_t)y * out.width + x) * 3, image.rgb + from * 3, 3);
        }
    free(image.rgb);
    return out;
}

static Image decode(const char *path, int upright)
{
    FILE *file = fopen(path, "rb");
    if (!file) die("%s: no such file", path);
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, (void *)path, png_failed, png_warned);
    png_infop info = png_create_info_struct(png);
    png_init_io(png, file);
    png_read_info(png, info);
    int grey16 = png_get_bit_depth(png, info) == 16 && png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY;
    png_set_palette_to_rgb(png);
    png_set_expand_gray_1_2_4_to_8(png);
    if (!grey16) { /* 16 bits of grey are limited to 255; of colours, Pillow takes the high byte */
        png_set_strip_16(png);
        png_set_gray_to_rgb(png);
    }
    png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    Image image = {png_get_image_width(png, info), png_get_image_height(png, info), NULL};
    size_t stride = png_get_rowbytes(png, info), count = (size_t)image.width * image.height;
    image.rgb = allocate(stride * image.height + count); /* grey has two bytes of each pixel's three */
    png_bytepp rows = allocate(image.height * sizeof *rows);
    for (int y = 0; y < image.height; y++) rows[y] = image.rgb + y * stride;
    png_read_image(png, rows);
    png_read_end(png, info);
    for (size_t i = grey16 ? count : 0; i-- > 0;)
        memset(image.rgb + 3 * i, image.rgb[2 * i] ? 255 : image.rgb[2 * i + 1], 3);
    int orientation = upright ? orientation_of(png, info) : 1;
    png_destroy_read_struct(&png, &info, NULL);
    free(rows);
    fclose(file);
    return turn(image, orientation);
}

/* ---- Crop as fastai, resize as Pillow ---- */

/* Rows of an image, or columns: how many pixels one has, how many bytes apart pixels are, and rows. */
typedef struct { int pixels; long step, line; } Axis;

/* One pass, on each of `lines` lines: bytes of `in` along one axis become bytes of `out` along another. */
static void pass(const uint8_t *in, Axis from, uint8_t *out, Axis to, int lines)
{
    double scale = (double)from.pixels / to.pixels, stretch = scale > 1 ? scale : 1;
    double *weights = allocate((size_t)(2 * stretch + 3) * sizeof *weights);
    int32_t *fixed = allocate((size_t)(2 * stretch + 3) * sizeof *fixed);
    for (int i = 0; i < to.pixels; i++) {
        double center = (i + 0.5) * scale, total = 0;
        int first = center - stretch + 0.5 > 0 ? (int)(center - stretch + 0.5) : 0;
        int end = center + stretch + 0.5 < from.pixels ? (int)(center + stretch + 0.5) : from.pixels;
        for (int x = first; x < end; x++) {
            double distance = (x - center + 0.5) * (1.0 / stretch);
            double weight = distance < 0 ? 1 + distance : 1 - distance;
            total += weights[x - first] = weight > 0 ? weight : 0;
        }
        for (int x = 0; x < end - first; x++) fixed[x] = (int32_t)(0.5 + weights[x] / total * (1 << BITS));
        for (int line = 0; line < lines; line++) {
            const uint8_t *source = in + line * from.line + first * from.step;
            for (int channel = 0; channel < 3; channel++) {
                int32_t sum = 1 << (BITS - 1);
                for (int x = 0; x < end - first; x++) sum += source[x * from.step + channel] * fixed[x];
                out[line * to.line + i * to.step + channel] = sum >> BITS;
            }
        }
    }
    free(weights);
    free(fixed);
}

/* The network's input, uint8 [height, width, 3]. */
static uint8_t *pixels(Image image, int height, int width)
{
    double w = (double)image.width / width, h = (double)image.height / height, scale = w < h ? w : h;
    int across = (int)(scale * width), down = (int)(scale * height); /* fastai's expression: 115 gives 114 */
    long stride = 3L * image.width, kept = 3L * width;
    uint8_t *window = image.rgb + (int)(0.5 * (image.height - down)) * stride + (int)(0.5 * (image.width - across)) * 3;
    uint8_t *result = allocate((size_t)height * kept);
    if (!across || !down) return result; /* an empty window gives black */
    int height_first = down - height > 2 * (across - width > 0 ? across - width : 0); /* Pillow 13 */
    uint8_t *between = allocate(3 * (size_t)(height_first ? height * across : down * width));
    if (height_first) {
        pass(window, (Axis){down, stride, 3}, between, (Axis){height, 3L * across, 3}, across);
        pass(between, (Axis){across, 3, 3L * across}, result, (Axis){width, 3, kept}, height);
    } else {
        pass(window, (Axis){across, 3, stride}, between, (Axis){width, 3, kept}, down);
        pass(between, (Axis){down, kept, 3}, result, (Axis){height, kept, 3}, width);
    }
    free(between);
    return result;
}

/* ---- onnxruntime ---- */

static const OrtApi *ort;

static void check(OrtStatus *status)
{
    if (status) die("onnxruntime: %s", ort->GetErrorMessage(status));
}

static char *metadata(OrtSession *session, OrtAllocator *allocator)
{
    OrtModelMetadata *all;
    char *entry;
    check(ort->SessionGetModelMetadata(session, &all));
    check(ort->ModelMetadataLookupCustomMetadataMap(all, allocator, "petinfer", &entry));
    if (!entry) die("model: has no description for petinfer (python -m export writes model files)");
    ort->ReleaseModelMetadata(all);
    return entry;
}

/* The probabilities of one photo; they belong to `output`. */
static float *run(OrtSession *session, uint8_t *input, const Description *is, OrtValue **output)
{
    const char *inputs[] = {"image"}, *outputs[] = {"probabilities"};
    int64_t shape[] = {1, is->height, is->width, 3};
    size_t size = (size_t)is->height * is->width * 3;
    OrtMemoryInfo *memory;
    OrtValue *image = NULL;
    float *probabilities;
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    ONNXTensorElementDataType bytes = ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    check(ort->CreateTensorWithDataAsOrtValue(memory, input, size, shape, 4, bytes, &image));
    check(ort->Run(session, NULL, inputs, (const OrtValue *const *)&image, 1, outputs, 1, output));
    check(ort->GetTensorMutableData(*output, (void **)&probabilities));
    ort->ReleaseValue(image);
    ort->ReleaseMemoryInfo(memory);
    return probabilities;
}

int main(int count, char **arguments)
{
    if (count < 3 || count > 4) die("usage: %s MODEL.onnx PHOTO.png [PIXELS]", arguments[0]);
    OrtEnv *environment;
    OrtSessionOptions *options;
    OrtSession *session;
    OrtAllocator *allocator;
    OrtValue *output = NULL;
    ort = OrtGetApiBase()->GetApi(API_VERSION);
    if (!ort) die("onnxruntime: older than 1.%d", API_VERSION);
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "classify", &environment));
    check(ort->CreateSessionOptions(&options));
    check(ort->CreateSession(environment, arguments[1], options, &session));
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    Description is = describe(metadata(session, allocator));

    Image image = decode(arguments[2], is.upright);
    uint8_t *input = pixels(image, is.height, is.width);
    if (count == 4) {
        FILE *file = fopen(arguments[3], "wb");
        size_t size = (size_t)is.height * is.width * 3;
        if (!file || fwrite(input, 1, size, file) != size || fclose(file)) die("%s: cannot be written", arguments[3]);
    }
    float *probabilities = run(session, input, &is, &output);
    for (int i = 0; i < is.count; i++) printf("%s\t%.9g\n", is.labels[i], probabilities[i]);
    ort->ReleaseValue(output);
    ort->ReleaseSession(session);
    ort->ReleaseSessionOptions(options);
    ort->ReleaseEnv(environment);
    return 0;
}
