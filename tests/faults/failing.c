/* A disk that fails: preloaded, the n-th call that writes below a folder fails, in any process.
 *
 * What to do is read from a file, named by FAILING, which all processes map; its layout is that of
 * writes.py. Calls that free room are let through.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

struct told {
    long left;  /* calls until the one that fails; 0 where none is to */
    long count; /* calls so far */
    long error;
    long stays; /* whether all later ones fail as well */
    char root[PATH_MAX];
};

static struct told *told;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("FAILING");
    int file = name ? open(name, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *found = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED) told = found;
}

static int below(const char *path) {
    size_t size = strlen(told->root);
    if (!size || strncmp(path, told->root, size)) return 0;
    return path[size] == '/' || !strncmp(path + size, ".home/", 6);
}

static int fails(const char *path) {
    if (!below(path)) return 0;
    __sync_fetch_and_add(&told->count, 1);
    if (!told->left) return 0;
    long left = __sync_sub_and_fetch(&told->left, 1);
    if (left == 0 && told->stays) told->left = 1; /* and the next one, too */
    if (left != 0) return 0;
    errno = (int)told->error;
    return 1;
}

static int fd_fails(int fd) {
    char link[64], path[PATH_MAX];
    if (!told) return 0;
    int kept = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (size <= 0) return 0;
    path[size] = 0;
    return fails(path);
}

static int path_fails(int folder, const char *path) {
    char link[64], whole[2 * PATH_MAX];
    if (!told || !path) return 0;
    if (path[0] == '/') return fails(path);
    int kept = errno;
    if (folder == AT_FDCWD) strcpy(link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t size = readlink(link, whole, PATH_MAX);
    errno = kept;
    if (size <= 0) return 0;
    snprintf(whole + size, sizeof whole - (size_t)size, "/%s", path);
    return fails(whole);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t size) {
    return fd_fails(fd) ? -1 : REAL(write)(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    return fd_fails(fd) ? -1 : REAL(pwrite)(fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return fd_fails(fd) ? -1 : REAL(pwrite64)(fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *data, int count) {
    return fd_fails(fd) ? -1 : REAL(writev)(fd, data, count);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t size) {
    ssize_t (*real)(int, int, off64_t *, size_t) = dlsym(RTLD_NEXT, "sendfile64");
    return fd_fails(to) ? -1 : real(to, from, at, size);
}
ssize_t sendfile(int to, int from, off_t *at, size_t size) {
    ssize_t (*real)(int, int, off_t *, size_t) = dlsym(RTLD_NEXT, "sendfile");
    return fd_fails(to) ? -1 : real(to, from, at, size);
}
int ftruncate(int fd, off_t size) { return fd_fails(fd) ? -1 : REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) {
    return fd_fails(fd) ? -1 : REAL(ftruncate64)(fd, size);
}
int fsync(int fd) { return fd_fails(fd) ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fd_fails(fd) ? -1 : REAL(fdatasync)(fd); }
int rename(const char *old, const char *to) {
    return path_fails(AT_FDCWD, to) ? -1 : REAL(rename)(old, to);
}
int mkdir(const char *path, mode_t mode) {
    return path_fails(AT_FDCWD, path) ? -1 : REAL(mkdir)(path, mode);
}
int link(const char *old, const char *to) {
    return path_fails(AT_FDCWD, to) ? -1 : REAL(link)(old, to);
}

#define OPENS(name, given, folder, ...)                                              \
    int name(given const char *path, int flags, ...) {                               \
        va_list more;                                                                \
        va_start(more, flags);                                                       \
        mode_t mode = (flags & (O_CREAT | __O_TMPFILE)) ? va_arg(more, mode_t) : 0;  \
        va_end(more);                                                                \
        if ((flags & (O_CREAT | O_TRUNC)) && path_fails(folder, path)) return -1;    \
        return REAL(name)(__VA_ARGS__ path, flags, mode);                            \
    }
#define NONE
#define FOLDER int at,
OPENS(open, NONE, AT_FDCWD, )
OPENS(open64, NONE, AT_FDCWD, )
#define AT at,
OPENS(openat, FOLDER, at, AT)
OPENS(openat64, FOLDER, at, AT)
