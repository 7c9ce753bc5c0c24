/* A wall clock that is AHEAD seconds ahead, for every process that loads this: cc -shared -fPIC -DAHEAD=34560000.
   Monotonic and boot-time clocks, and the stamps of files, stay what they are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define PUBLIC __attribute__((visibility("default")))

static int real_clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = REAL(clock_gettime);
    return real(clock, at);
}

PUBLIC int clock_gettime(clockid_t clock, struct timespec *at) {
    int code = real_clock_gettime(clock, at);
    if (code == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
        at->tv_sec += AHEAD;
    return code;
}

PUBLIC time_t time(time_t *out) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (out) *out = at.tv_sec;
    return at.tv_sec;
}

PUBLIC int gettimeofday(struct timeval *out, void *zone) {
    struct timespec at;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &at);
    out->tv_sec = at.tv_sec;
    out->tv_usec = at.tv_nsec / 1000;
    return 0;
}

PUBLIC int timespec_get(struct timespec *at, int base) {
    return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, at) == 0 ? base : 0;
}

/* Waits until an instant of the wall clock: the kernel's own. */
PUBLIC int sem_timedwait(sem_t *what, const struct timespec *until) {
    struct timespec at = {until->tv_sec - AHEAD, until->tv_nsec};
    return REAL(sem_timedwait)(what, &at);
}

PUBLIC int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left) {
    struct timespec at = *until;
    if (clock == CLOCK_REALTIME && flags & TIMER_ABSTIME) at.tv_sec -= AHEAD;
    return REAL(clock_nanosleep)(clock, flags, &at, left);
}
