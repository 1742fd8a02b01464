/* A clock that jumps: preloaded, the time of day is another one every now and then.
 *
 * All processes see the same jumps: by how much the clock is wrong follows from how long the system
 * has run, cut into pieces of CLOCK_EVERY_MS, and from CLOCK_SEED; without that it is right. What
 * counts since the start of the system is let through, as a kernel never sets it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static const int64_t JUMPS[] = {0, 3600, -3600, 400 * 86400L, -400 * 86400L, -2000000000};

static int (*true_gettime)(clockid_t, struct timespec *);

static uint64_t mixed(uint64_t x) { /* splitmix64's last steps */
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static int64_t wrong_by(void) {
    const char *seed = getenv("CLOCK_SEED"), *every = getenv("CLOCK_EVERY_MS");
    if (!seed || !every || atoll(every) < 1) return 0;
    struct timespec now;
    true_gettime(CLOCK_MONOTONIC, &now);
    uint64_t piece = ((uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000) / atoll(every);
    return JUMPS[mixed(piece * 0x9e3779b97f4a7c15u + atoll(seed)) % (sizeof JUMPS / sizeof *JUMPS)];
}

int clock_gettime(clockid_t clock, struct timespec *found) {
    if (!true_gettime) *(void **)&true_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = true_gettime(clock, found);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        found->tv_sec += wrong_by();
        if (found->tv_sec < 0) { /* as of a board without a battery, which begins in 1970 */
            struct timespec boot;
            true_gettime(CLOCK_MONOTONIC, &boot);
            found->tv_sec = boot.tv_sec;
        }
    }
    return failed;
}

int gettimeofday(struct timeval *restrict found, void *restrict zone) {
    (void)zone;
    struct timespec now;
    int failed = clock_gettime(CLOCK_REALTIME, &now);
    if (!failed) found->tv_sec = now.tv_sec, found->tv_usec = now.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *found) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (found) *found = now.tv_sec;
    return now.tv_sec;
}
