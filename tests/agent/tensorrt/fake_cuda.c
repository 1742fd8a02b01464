/* CUDA's driver and runtime as far as the agent calls them; the GPU's memory is the process's own.
   Compiled, it shows that ctypes passes what the C prototypes of CUDA's manuals say. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#define FAR ((size_t)1 << 26)  // glibc always maps so much by itself, above 4 GiB

typedef int code;
typedef void *stream;

code cuInit(unsigned flags) { return flags; }
code cuDeviceGetCount(int *count) { *count = 2; return 0; }
code cuDriverGetVersion(int *version) { *version = 13020; return 0; }
code cuDeviceGet(int *device, int index) { *device = 40 + index; return 0; }
code cuDeviceGetName(char *name, int size, int device) {
    strncpy(name, device == 40 ? "NVIDIA Thor" : "NVIDIA Other", size);
    return 0;
}
code cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 11 : attribute == 76 ? device - 40 : -1;
    return 0;
}

code cudaRuntimeGetVersion(int *version) { *version = 12060; return 0; }
code cudaMalloc(void **address, size_t size) {
    if (size > ((size_t)1 << 40)) return 2;
    *address = malloc(size + FAR);
    return 0;
}
code cudaFree(void *address) { free(address); return 0; }
code cudaStreamCreateWithFlags(stream *made, unsigned flags) {
    if (flags != 1) return 1;
    *made = malloc(1);
    return 0;
}
code cudaStreamDestroy(stream made) { free(made); return 0; }
code cudaStreamSynchronize(stream made) { return made ? 0 : 400; }
code cudaMemcpyAsync(void *target, const void *source, size_t size, int kind, stream made) {
    if ((kind != 1 && kind != 2) || !made) return 21;
    memcpy(target, source, size);
    return 0;
}
struct event { float ms; };
static float now_ms;
code cudaEventCreate(struct event **made) { *made = malloc(FAR); return 0; }
code cudaEventRecord(struct event *one, stream made) {
    if (!made) return 400;
    one->ms = now_ms += 1.5f;
    return 0;
}
code cudaEventElapsedTime(float *ms, struct event *first, struct event *last) {
    *ms = last->ms - first->ms;
    return 0;
}
code cudaEventDestroy(struct event *one) { free(one); return 0; }
code cudaMemGetInfo(size_t *free_bytes, size_t *total) {
    *free_bytes = (size_t)5 << 32;
    *total = (size_t)8 << 32;
    return 0;
}
code cudaDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 18 && device == 0;
    return 0;
}
const char *cudaGetErrorString(code error) { return error == 2 ? "out of memory" : "other"; }
