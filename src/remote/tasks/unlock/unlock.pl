# Removes locks of processes that are gone, and what their runs have left. Its variables are those of
# unlock.sh.

sub unlock {
    beat($in{patience});
    my $base = $in{base};
    my $folder = folder_of(lock_of($base));
    for my $name (sort grep { /^lock-/ } names_in($folder)) {
        my $lock = "$folder/$name";
        next if -l $lock || !-d _;
        my ($is_gone, $holder, $owner) = holder_of($lock);
        if (!defined $owner) { ($is_gone, $holder) = (rmdir $lock, 'unknown') }
        elsif ($is_gone) {
            unlink $owner or $!{ENOENT} or fail("cannot remove $lock ($!)");
            # Another run may have it by now.
            rmdir $lock;
        }
        mark($is_gone ? 'removed' : 'held', $holder);
    }
    remove_dead_runs($base, 1) if -d $base;
    return 'ok';
}
