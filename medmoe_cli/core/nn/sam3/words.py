"""Words that the small model's tokenizer reads whole; any other word is read in pieces, down to its bytes.

Names of organs, vessels, bones, tissues, lesions and directions, as public data sets use them.
"""

from __future__ import annotations

_WORDS = """
abdomen abdominal abscess adrenal airway anterior aorta aortic appendix arch arm artery ascending atrial atrium
background bladder blood body bone bowel brain brainstem breast bronchus bulb calcification cancer canal cardiac
carotid cartilage cavity cell central cerebellum cerebral chamber chest clavicle colon column cord core coronary
cortex cyst descending diaphragm disc disk duct duodenum edema effusion enhancing epicardium esophagus eye face fat
femoral femur fissure fluid fossa gallbladder gland gluteus great head heart hemorrhage hepatic hilum hip hippocampus
hippocampal humerus iliac inferior infarct insular intestine ischemic jaw joint kidney large larynx lateral left leg
lens lesion ligament liver lobe lower lumbar lung lymph mandible mass matter maximus medial mediastinum medius melanoma
membrane meniscus middle minimus muscle myocardium myocardial nasal neck necrosis nerve node nodule of and the in optic
orbit organ other ovary pancreas parotid pelvis peritumoral pericardium pharynx plaque pleural polyp portal posterior
prostate pulmonary rectum region renal retina rib right sacrum scapula scar segment septum sinus skin skull small
spinal spine spleen splenic sternum stomach stroke structure subcutaneous superior tail temporal thalamus thigh
thoracic thorax thymus thyroid tibia tissue tongue trachea transition tumor tumour upper ureter uterus valve vein vena
ventricle ventricular vertebra vertebrae vessel volume wall white whole wound zone cava grey gray
"""


def small_vocabulary() -> tuple[str, ...]:
    """The words, sorted."""
    return tuple(sorted(set(_WORDS.split())))
