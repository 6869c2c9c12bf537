/**
 * English words after which a period ends no sentence: Moses' nonbreaking_prefix.en, as sacremoses 0.2.0 has it.
 */
export const nonbreakingPrefixes: ReadonlySet<string> = new Set(
  (
    'A B C D E F G H I J K L M N O P Q R S T U V W X Y Z Adj Adm Adv Asst Bart Bldg Brig Bros Capt Cmdr Col Comdr Con Corp Cpl DR Dr Drs ' +
    'Ens Gen Gov Hon Hr Hosp Insp Lt MM MR MRS MS Maj Messrs Mlle Mme Mr Mrs Ms Msgr Op Ord Pfc Ph Prof Pvt Rep Reps Res Rev Rt Sen ' +
    'Sens Sfc Sgt Sr St Supt Surg v vs i.e rev e.g Rs Nos Nr Jan Feb Mar Apr Jun Jul Aug Sep Oct Nov Dec'
  ).split(' '),
);

/** Only before a number. */
export const numericPrefixes: ReadonlySet<string> = new Set(['No', 'Art', 'pp']);
