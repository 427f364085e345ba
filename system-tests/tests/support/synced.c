/* Remembers what a process has synced: preloaded into it, it appends to the file named by WAVEKEEP_TEST_SYNCED, after each
 * successful fsync or fdatasync of a regular file, one line "SIZE PATH". A power cut keeps of a file at least what the last of
 * its lines says, and may lose the rest. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void remember(int fd, off_t size) {
    char link[64], path[4096], line[4200];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    const char *file = getenv("WAVEKEEP_TEST_SYNCED");
    if (length < 0 || !file) return;
    path[length] = 0;
    int count = snprintf(line, sizeof line, "%lld %s\n", (long long)size, path);
    int out = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    /* One write: lines of several threads do not mix. */
    if (out >= 0 && write(out, line, (size_t)count) != count) abort();
    if (out >= 0) close(out);
}

static int synced(const char *name, int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat before;
    /* What is written while the sync runs may not be part of it. */
    int regular = fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    int result = real(fd);
    if (result == 0 && regular) remember(fd, before.st_size);
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
